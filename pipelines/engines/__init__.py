"""The engines that run the pipelines, a folder each."""
