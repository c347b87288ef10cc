"""What the command line draws; nothing else imports it but the Prefect flow, for its log."""
