"""Arguments that several commands share."""


def add_cluster(sub) -> None:
    """Adds the flags of a command that divides its work among the processes of a job."""
    sub.add_argument(
        "--coordinator", default="", metavar="HOST:PORT", help="address of process 0, for a job that JAX doesn't detect"
    )
    sub.add_argument("--num_processes", type=int, metavar="N", help="number of processes of the job")
    sub.add_argument("--process_id", type=int, metavar="I", help="index of this process, from 0")
