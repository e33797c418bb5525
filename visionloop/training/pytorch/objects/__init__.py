"""Detection, segmentation and pose with the loop here: pictures, augmentation and measurement, whatever model finds the objects."""
