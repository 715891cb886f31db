"""
This is where projects are laid out the ways Celery users lay them out, and each finds its app: worker and caller.

Django itself is not installed here; its layout is tested with the parts of it that are Celery's own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from taskcache import Cache
from tests.nodes.prompt import Prompt
from tests.nodes.workers import REPOSITORY, WorkerNode

APP = """
    import os
    from celery import Celery
    app = Celery("proj", broker=os.environ["BROKER"], backend=os.environ["BACKEND"]{more})
    app.conf.broker_connection_retry_on_startup = True
"""
TASKS = """
    import os
    from taskcache import Cache
    cache = Cache({app})

    @cache.cache_async(timeout=60)
    def where(text):
        return [text, os.getpid()]

    @cache.cache_async(timeout=60)
    def outer(text):
        return ["outer", *where(text)()]
"""


class Project:
    """A folder with modules, its workers, and prompts in it."""

    def __init__(self, folder: Path, start_worker: Callable[..., WorkerNode]) -> None:
        self.folder = folder
        self._start_worker = start_worker

    def write(self, path: str, text: str) -> None:
        """Write a module, and the packages it is in."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        for parent in file.relative_to(self.folder).parents:
            (self.folder / parent / "__init__.py").touch()
        file.write_text(textwrap.dedent(text))

    def worker(self, module: str) -> WorkerNode:
        """Start `celery -A module worker` in the folder."""
        return self._start_worker(module, pool="solo", concurrency=1, cwd=self.folder)

    def prompt(self, statement: str = "pass") -> Prompt:
        """Open a prompt in which the folder is on the path."""
        return Prompt(f"import sys, threading; sys.path.insert(0, {str(self.folder)!r}); {statement}")

    def served(self, module: str, statement: str, tasks: str = "proj.tasks") -> None:
        """A worker started with `-A module` computes what a caller calls after `statement`, also from a thread."""
        worker = self.worker(module)
        with self.prompt(f"{statement}; from {tasks} import where, outer") as prompt:
            assert ["hello", worker.pid] == prompt.ask("where('hello')(timeout=30)")
            assert ["outer", "there", worker.pid] == prompt.ask("outer('there')(timeout=30)")
            prompt.ask("run('said = []; call = lambda: said.append(where(\"thread\")(timeout=30))')")
            prompt.ask("run('t = threading.Thread(target=call); t.start(); t.join()')")
            assert [["thread", worker.pid]] == prompt.ask("said")
            assert ["delayed", worker.pid] == prompt.ask("where.delay('delayed').get(timeout=30)")


@pytest.fixture
def project(
    tmp_path: Path,
    start_worker: Callable[..., WorkerNode],
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
    broker_url: str,
    backend_url: str,
) -> Project:
    """An empty project, whose cache is found by TASKCACHE_URL."""
    for name, url in (("TASKCACHE_URL", redis_url), ("BROKER", broker_url), ("BACKEND", backend_url)):
        monkeypatch.setenv(name, url)
    return Project(tmp_path, start_worker)


# Where the app is found


def test_tasks_are_included(project: Project) -> None:
    """`include=[...]`: the cache knows no app; the only one there is takes the calls."""
    project.write("proj/celery.py", APP.format(more=', include=["proj.tasks"]'))
    project.write("proj/tasks.py", TASKS.format(app=""))

    project.served("proj.celery", "import proj.celery")


def test_tasks_are_discovered(project: Project) -> None:
    """`autodiscover_tasks`: the tasks of several packages, registered as shared tasks are."""
    project.write("proj/celery.py", APP.format(more="") + '    app.autodiscover_tasks(["proj.blog", "proj.shop"])\n')
    project.write("proj/blog/tasks.py", TASKS.format(app=""))
    project.write("proj/shop/models.py", "")

    project.served("proj.celery", "import proj.celery", "proj.blog.tasks")


def test_an_app_is_made_by_a_factory(project: Project) -> None:
    """An application factory makes the app after the tasks have been defined."""
    project.write(
        "proj/factory.py",
        """
        import os
        from celery import Celery

        def make_app():
            import proj.tasks
            app = Celery("made")
            app.conf.update(broker_url=os.environ["BROKER"], result_backend=os.environ["BACKEND"])
            return app
        """,
    )
    project.write("proj/tasks.py", TASKS.format(app=""))
    project.write("proj/worker.py", "from proj.factory import make_app\napp = make_app()\n")

    project.served("proj.worker:app", "from proj.factory import make_app; made = make_app()")


@pytest.mark.parametrize("spelled", ["proj.celery:app", "proj.celery", "proj"])
def test_an_app_is_named_as_for_the_command_line(project: Project, spelled: str) -> None:
    """`Cache(app="...")` takes what `celery -A` takes and resolves it at the first call: imports may go in a circle."""
    project.write("proj/celery.py", APP.format(more="") + "    import proj.tasks\n")
    project.write("proj/tasks.py", TASKS.format(app=f"app={spelled!r}"))

    project.served("proj.celery", "pass")


def test_an_app_is_given(project: Project) -> None:
    """`Cache(app=app)`, in the one module that many projects are."""
    project.write("proj/tasks.py", APP.format(more="") + TASKS.format(app="app=app"))

    project.served("proj.tasks", "pass")


def test_an_app_is_given_later(project: Project) -> None:
    """`cache.app = app`, once it is there, also beside another app."""
    project.write("proj/celery.py", APP.format(more="") + "    from proj.tasks import cache\n    cache.app = app\n")
    project.write("proj/tasks.py", TASKS.format(app=""))

    project.served("proj.celery", "from celery import Celery; other = Celery('other'); import proj.celery")


def test_the_layout_of_a_django_project(project: Project) -> None:
    """`proj/__init__.py` imports the app, settings have a namespace, the installed apps have tasks: `celery -A proj`."""
    project.write(
        "proj/celery.py",
        """
        from celery import Celery
        from proj import settings
        app = Celery("proj")
        app.config_from_object("proj.settings", namespace="CELERY")
        app.autodiscover_tasks(lambda: settings.INSTALLED_APPS)
        """,
    )
    project.write(
        "proj/settings.py",
        """
        import os
        INSTALLED_APPS = ["blog", "proj.shop"]
        CELERY_BROKER_URL, CELERY_RESULT_BACKEND = os.environ["BROKER"], os.environ["BACKEND"]
        CELERY_ACCEPT_CONTENT = ["json"]
        CELERY_TASK_DEFAULT_QUEUE = "django"
        """,
    )
    project.write("blog/tasks.py", TASKS.format(app=""))
    project.write("proj/shop/views.py", "")
    project.write("proj/__init__.py", 'from .celery import app as celery_app\n__all__ = ("celery_app",)\n')

    project.served("proj", "import proj", "blog.tasks")


def test_a_call_inside_a_task_uses_the_tasks_app(project: Project) -> None:
    """In a worker with two apps, a call from a plain task goes to the app of that task: no ambiguity."""
    project.write(
        "proj/celery.py",
        APP.format(more=', include=["proj.tasks"]')
        + """
    other = Celery("other", broker="memory://")

    @app.task(name="plain")
    def plain(text):
        from proj.tasks import where
        return where(text)()
""",
    )
    project.write("proj/tasks.py", TASKS.format(app=""))
    worker = project.worker("proj.celery:app")

    with project.prompt("from proj.celery import plain") as prompt:
        assert ["nested", worker.pid] == prompt.ask("plain.delay('nested').get(timeout=30)")


# Where there is none, or more than one


def refusal(prompt: Prompt, call: str) -> Any:
    """The name and the message of what a call raises, called in the main thread and in another one."""
    prompt.ask(f"run({REFUSED.format(call=call)!r})")
    here, there = prompt.ask("said")
    assert here == there
    return here


REFUSED = """
said = []
def attempt():
    try:
        {call}
    except Exception as error:
        said.append([type(error).__name__, str(error)])
attempt()
thread = threading.Thread(target=attempt)
thread.start()
thread.join()
"""


def test_several_apps_are_ambiguous(project: Project) -> None:
    """With two apps and no word about which, a call names both and the cure."""
    project.write("proj/tasks.py", TASKS.format(app=""))
    with project.prompt("from celery import Celery; one, two = Celery('one'), Celery('two')") as prompt:
        prompt.ask("run('from proj.tasks import where')")
        name, message = refusal(prompt, "where('x')")

    assert "AmbiguousApp" == name
    assert "'one'" in message
    assert "'two'" in message
    assert "Cache(app=app)" in message


def test_without_an_app_there_is_no_guess(project: Project) -> None:
    """Celery's fallback app, which nobody configured, is never used: not even where somebody has touched it."""
    project.write("proj/tasks.py", TASKS.format(app=""))
    with project.prompt("import celery; celery.current_app.conf.broker_url") as prompt:
        prompt.ask("run('from proj.tasks import where')")
        name, message = refusal(prompt, "where('x')")
        delayed = refusal(prompt, "where.delay('x')")

    assert "NoCeleryApp" == name == delayed[0]
    assert "Cache(app=" in message


def test_a_shared_task_does_not_make_the_fallback_app_ours(project: Project) -> None:
    """A `shared_task` that was called has made Celery's fallback app; it stays nobody's."""
    project.write("proj/tasks.py", TASKS.format(app=""))
    project.write("proj/plain.py", "from celery import shared_task\n@shared_task\ndef plain():\n    return 1\n")
    with project.prompt("from proj.plain import plain; plain.name") as prompt:
        prompt.ask("run('from proj.tasks import where')")

        assert "NoCeleryApp" == refusal(prompt, "where('x')")[0]


@pytest.mark.parametrize("spelled", ["nowhere.celery:app", "proj.tasks:nothing"])
def test_a_name_that_leads_nowhere_is_told(project: Project, spelled: str) -> None:
    """A mistake in `Cache(app="...")` is told at the first call, with what was written."""
    project.write("proj/tasks.py", TASKS.format(app=f"app={spelled!r}"))
    with project.prompt("from proj.tasks import where") as prompt:
        name, message = refusal(prompt, "where('x')")

    assert "NoCeleryApp" == name
    assert spelled in message


# What a task is called


SCRIPT = (
    APP
    + """
    import enum
    import multiprocessing
    from taskcache import Cache
    cache = Cache(app=app)

    class Colour(enum.Enum):
        RED = 1

    @cache.cache_async(timeout=60{options})
    def where(colour):
        return colour, os.getpid()

    def key():
        return where.key_for(Colour.RED)

    if __name__ == "__main__":
        told = where(Colour.RED)(timeout=30)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            is_known = pool.apply(key) == key()
        print(where.name, told == (Colour.RED, told[1]), told[1], where(Colour.RED).source, is_known)
"""
)


@pytest.mark.parametrize(("options", "named"), [("", "script.where"), (", name='own', version=2", "own")])
def test_a_script_is_the_module_that_its_worker_imports(project: Project, options: str, named: str) -> None:
    """`python script.py` and `celery -A script worker`: one name, one key, and the same classes; also in a pool."""
    project.write("script.py", SCRIPT.format(more="", options=options))
    worker = project.worker("script")
    program = [sys.executable, "script.py"]
    path = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ran = subprocess.run(program, cwd=project.folder, env=path, capture_output=True, text=True, timeout=60)

    assert ("", f"{named} True {worker.pid} hit True\n") == (ran.stderr, ran.stdout)


def test_two_caches_of_one_function_want_two_names(project: Project) -> None:
    """Celery keeps the first of two tasks with one name, and the second one's calls would wait for a flight of the first."""
    project.write("proj/celery.py", APP.format(more=""))
    project.write(
        "proj/tasks.py",
        """
        from proj.celery import app
        from taskcache import Cache

        def plain(number):
            return number

        @app.task(name="proj.tasks.taken")
        def taken():
            return 1

        one = Cache(app=app).cache_async()(plain)
        two = Cache(app=app, name="other").cache_async()(plain)
        third = Cache(app=app, name="other").cache_async(name="proj.tasks.taken")(plain)
        """,
    )
    with project.prompt(
        "import warnings; warnings.simplefilter('ignore'); from proj.tasks import two, third"
    ) as prompt:
        told = [refusal(prompt, "two(1)"), refusal(prompt, "third(1)")]

    assert ["UsageError", "UsageError"] == [name for name, _ in told]
    assert all("name of another task" in message for _, message in told)


def test_functions_of_one_name_stay_on_the_apps_of_their_caches(redis_url: str) -> None:
    """Also those that no module holds, of which an app keeps the newest."""
    made = []
    for number in range(2):
        app: Any = Celery(f"app-{number}", set_as_current=False)
        cache = Cache(redis_url, name=f"cache-{number}", app=app)
        made.append((app, cache.cache_async(name="named.alike")(lambda number: number)))
    newer = made[0][1].cache.cache_async(name="named.alike")(lambda number: -number)

    kept = [app.tasks["named.alike"].function for app, _ in made]
    assert (True, True) == (kept[0] is newer, kept[1] is made[1][1])
