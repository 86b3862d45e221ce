"""What the commands do with a model that decides by double masking."""
