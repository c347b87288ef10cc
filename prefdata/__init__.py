"""prefdata: preference datasets that one can train on and trust."""
