"""The tuning plan: stages with gates, decided on validation, resumable, with a ledger of every look at a test set."""
