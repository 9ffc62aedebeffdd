"""Several processes that train one model: how they meet, go in step and notice each other's end."""
