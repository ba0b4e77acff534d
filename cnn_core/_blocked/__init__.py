"""The tuned versions of convolution and max pooling: for speed, not for reading first."""
