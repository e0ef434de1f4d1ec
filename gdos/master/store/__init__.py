"""All the SQL. One writer thread; everyone else reads."""
