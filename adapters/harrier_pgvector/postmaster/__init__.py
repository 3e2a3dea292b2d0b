"""A PostgreSQL server in a folder: who owns it, who may enter it, and when it starts and stops.

    cluster.py   the folder: where its data is, how an index is made, which user owns it
    locks.py     locks that the kernel releases, however their holder ends
    server.py    this process's use of the server: start it, or join it, and leave it
    watcher.py   the process that runs the server, and stops it once it has no users

A folder that is an index holds `data`, PostgreSQL's data directory, and `.harrier`, with four empty files:

    users     locked by each process that uses the server (shared); the watcher locks it (exclusive) to stop the server
    start     locked by a process while it starts or joins the server, so that one does at a time
    watcher   locked by the watcher as long as it lives
    server    locked as long as any process of PostgreSQL lives: all of them inherit the descriptor

There is no list of process ids. A process that is killed loses its locks, and an id that was reused for another
process, as after the restart of a container, is never mistaken for the server's.
"""
