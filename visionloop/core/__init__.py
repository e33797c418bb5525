"""What a stage is and how one is run: keys, receipts, reservations, retries, stores, the record of a run."""
