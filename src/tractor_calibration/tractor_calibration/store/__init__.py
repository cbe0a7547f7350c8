"""The versions of the models and the history of the active model."""
