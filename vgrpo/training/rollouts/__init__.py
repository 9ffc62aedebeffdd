"""Where the images of a run come from: drawn here or by workers, for this iteration or for the next."""
