"""Seeded generators of the tasks that the models are trained on. They know no model."""

from armt_mini.tasks.associative_retrieval import AssociativeRetrieval, RetrievalBatch
from armt_mini.tasks.babilong import Babilong, BabilongBatch

Task = AssociativeRetrieval | Babilong
Batch = RetrievalBatch | BabilongBatch  # what is read, questions and answers come first
