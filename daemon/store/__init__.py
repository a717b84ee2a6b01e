"""Object stores: S3, Google Cloud Storage and Azure Blob Storage as inboxes, and their objects as images."""
