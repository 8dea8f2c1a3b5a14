"""The field's baselines, as models like any other. Importing the package alone does not import torch."""
