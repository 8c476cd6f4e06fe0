"""The process that serves: who may reach it, its sockets and connections, its row in SQL, and how it stops."""
