"""Images that are drawn for training runs by processes of their own."""
