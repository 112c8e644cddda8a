"""The store on a PostgreSQL server, and all the SQL for it.

The tables are those of `store/sqlite`, with the same columns, and these beside them:

    ids        (source, id) of each event: what was reported is not reported again
    log_head   the last number of the log, in one row: numbers are given out in the order of commits
    staged     events that are too many for one statement, until the end of their transaction
    store      the store's own identity, and how often commands have written
    workers    the processes that may write: each of their transactions begins with a look at its row

An event's number is a position of sinks and of programs that pull, so nothing may appear behind a position that was
read. A transaction therefore takes its numbers as the last step before it ends: one statement locks the row of
`log_head` and inserts all events, and the commit is sent with it. Numbers have no holes, and are visible in their order.

One connection writes (`writer.py`), a few read. What is durable survives a power cut of the server once it is
committed. The rest (`due`, sinks' cursors, counters) is committed without a wait for the server's disk.
"""
