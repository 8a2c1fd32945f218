"""Networks, and the trainable model around them."""
