"""Arrays of images and of labels, in numpy's format."""
