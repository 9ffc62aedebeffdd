"""The settings of a run: frozen, typed, checked when made, and as YAML."""
