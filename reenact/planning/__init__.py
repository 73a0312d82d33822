"""BATCH.yaml in, a plan of clips out, and the receipts of those made."""
