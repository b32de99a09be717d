"""Tables: CSV files and parquet become data sets of numbers, and a profile says what each column is."""

import os

# before pyarrow is imported, at the command line too: its own allocators reserve a GiB of addresses
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
