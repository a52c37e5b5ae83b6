"""Data sets: ingestion, the stored file, batches and augmentation."""
