"""This is where `taskcache demo` is: the standard library measured by real workers, once, and shared.

The tree: `measure` is the slow function, `library` its input, `meeting` what the demo and its workers share, `worker` the
module they are started with, `pool` their lives and one's death, `story` what is shown, `screen` how.
"""
