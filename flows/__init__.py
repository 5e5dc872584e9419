"""Prefect flows: choose, fan out, report. The journal is the record; a flow that dies loses nothing."""

from keyturn.prefect_access import keep_login_out_of_logs

# Here, since every process of keyturn's that speaks to Prefect imports this package first: its server, too.
keep_login_out_of_logs()
