"""Arguments that several commands share."""


def add_cluster(sub) -> None:
    """Adds the flags of a command whose work the processes of a job share."""
    sub.add_argument(
        "--coordinator", default="", metavar="HOST:PORT", help="process 0 of a job that JAX doesn't detect"
    )
    sub.add_argument("--num_processes", type=int, metavar="N", help="how many processes the job has")
    sub.add_argument("--process_id", type=int, metavar="I", help="which of them this is, from 0")
