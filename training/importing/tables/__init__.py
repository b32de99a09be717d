"""Tables: CSV files and parquet become data sets of numbers, and a profile says what each column is."""
