"""Interactive figures: one Python class and one JavaScript module each, and one shared engine."""
