"""What people, pages and monitors read: views, the audit log, models, health."""
