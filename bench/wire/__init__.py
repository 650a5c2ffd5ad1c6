"""The whole way over real sockets: an exchange, the service and its subscribers, a process each."""
