"""A plugin of Towpath that reads and writes files below one folder, written without go-plugin and without Towpath's SDK."""
