"""The forecasting model: configuration, parts and assembly. Importing the package alone does not import torch."""
