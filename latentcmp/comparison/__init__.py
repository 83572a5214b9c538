"""The comparison: from models or features and structures to errors between all ordered pairs."""
