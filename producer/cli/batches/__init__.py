"""The commands that submit a batch, look at it and steer it."""
