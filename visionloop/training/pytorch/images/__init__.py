"""Classification of whole images with the loop here: images in folders by class, training, measurement and prediction."""
