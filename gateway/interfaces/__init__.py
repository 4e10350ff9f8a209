"""Whom we call: one interface a file. Each turns an exchange into its wire format and back."""
