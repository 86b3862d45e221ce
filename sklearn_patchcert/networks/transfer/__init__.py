"""Networks that come with weights: heads, frozen parts, preprocessing, features."""
