"""What people, pages and monitors read: experiments, the audit log, models, health."""
