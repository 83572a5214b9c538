"""One module for each family of models; the only modules that import a model package, inside functions."""
