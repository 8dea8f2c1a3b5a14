"""The alternating spatio-temporal Transformer, its data and its training; knows neither Ray nor MLflow."""
