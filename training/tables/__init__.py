"""Training on tables: numbers and categories by column instead of pixels."""
