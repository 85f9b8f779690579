"""Seeded generators of the tasks that the models are trained on. They know no model."""
