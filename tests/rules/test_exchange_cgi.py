"""The rules of an exchange with a CGI script, as conversations (SEMANTICS 17 to 31, 76 to 79)."""

from __future__ import annotations

import errno
import signal
from typing import Any

import pytest

from tests.rules.conftest import Talks
from tests.rules.playbook import CLOSED, EOF, LOST, Talk, route

HEAD = b"Content-Type: text/plain\n\n"
TERM, KILL = int(signal.SIGTERM), int(signal.SIGKILL)


@pytest.fixture
def cgi(talk: Talks) -> Talk:
    return talk(route("cgi"))


def end(one: Talk, code: int = 0) -> None:
    """The script ends as scripts do."""
    one.script.stdout >> EOF
    one.script.stderr >> EOF
    one.script.exit(code)


def test_a_request_and_its_answer(cgi: Talk) -> None:
    cgi.client.get("/a?b")
    launch = cgi.script.order.launch
    assert (launch.path, launch.argv, launch.directory) == (b"/srv/script.cgi", [b"/srv/script.cgi"], b"/srv")
    assert cgi.script.environment[b"QUERY_STRING"] == b"b"
    assert cgi.script.order.stdin is None
    cgi.script.stdout >> HEAD + b"hello"
    end(cgi)
    answer = cgi.client.answer()
    assert (answer.content, answer.complete) == (b"hello", True)


def test_the_environment_is_made_from_nothing(cgi: Talk) -> None:
    cgi.client.get("/", "Ld-Preload: x", "Path: y")
    environment = cgi.script.environment
    assert environment[b"PATH"] == b"/usr/local/bin:/usr/bin:/bin"
    assert {name for name in environment if not name.startswith(b"HTTP_")} == {
        b"PATH", b"GATEWAY_INTERFACE", b"SERVER_SOFTWARE", b"REDIRECT_STATUS", b"REMOTE_ADDR",
        b"REMOTE_PORT", b"SERVER_ADDR",
        b"SERVER_PORT", b"REQUEST_SCHEME", b"SERVER_NAME", b"REQUEST_METHOD", b"REQUEST_URI", b"SCRIPT_NAME",
        b"QUERY_STRING", b"SERVER_PROTOCOL", b"PATH_INFO", b"SCRIPT_FILENAME", b"EXCHANGE_ID",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "arguments"), [("a+b%20c", [b"a", b"b c"]), ("a=b+c", []), ("", []), ("a%3Db", [b"a=b"]), ("a%00b", [])]
)
def test_an_indexed_query_is_the_arguments_where_allowed(talk: Talks, query: str, arguments: list[bytes]) -> None:
    one = talk(route("cgi", indexed_query=True))
    one.client.get("/?" + query)
    assert one.script.order.launch.argv == [b"/srv/script.cgi", *arguments]


def test_an_indexed_query_is_nothing_of_the_kind_by_default(cgi: Talk) -> None:
    cgi.client.get("/?-s")
    assert cgi.script.order.launch.argv == [b"/srv/script.cgi"]


# ---------------------------------------------------------------------- fields that are dropped (13)


def test_a_name_that_could_pose_as_another_is_dropped_and_told_once(talk: Talks) -> None:
    one = talk(route("cgi", processes=9))
    for name in ("X_Api_Key: a", "x_api_key: b", "X-Other: c\r\nX_Api_Key: d", "X.Dot: e", "Te: trailers"):
        one.connect().get("/", name)
        assert not {b"HTTP_X_API_KEY", b"HTTP_X_DOT"} & set(one.script.environment)
    told = [line for line in one.log.lines if "is not passed on" in line]
    assert len(told) == 2
    assert "route=/: field X_Api_Key is not passed on: " in told[0]
    assert "let the client send X-Api-Key" in told[0]
    assert "field X.Dot is not passed on: " in told[1]


def test_the_memory_of_dropped_names_is_bounded(talk: Talks) -> None:
    one = talk(route("cgi", processes=200))
    for number in range(150):
        client = one.connect()
        client.get("/", f"X_{number}: a")
    told = [line for line in one.log.lines if "is not passed on" in line or "no further" in line]
    assert len(told) == 101
    assert "no further" in told[-1]


# ---------------------------------------------------------------------- content (3, 18)


def test_content_and_then_the_end_of_stdin(cgi: Talk) -> None:
    cgi.client.post("/", b"content")
    assert cgi.script.environment[b"CONTENT_LENGTH"] == b"7"
    cgi.script.stdin << b"content" << CLOSED


def test_chunked_content_gets_a_length_first(cgi: Talk) -> None:
    cgi.client >> b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    assert not cgi.scripts
    cgi.client >> b"0\r\n\r\n"
    assert cgi.script.environment[b"CONTENT_LENGTH"] == b"5"
    cgi.script.stdin << b"hello" << CLOSED


def test_content_with_a_length_streams(cgi: Talk) -> None:
    cgi.client >> b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello"
    cgi.script.stdin << b"hello"
    cgi.client >> b"world"
    cgi.script.stdin << b"world" << CLOSED


def test_content_that_comes_before_the_process_is_there(cgi: Talk) -> None:
    cgi.starts = False
    cgi.client.post("/", b"content")
    cgi.start()
    cgi.script.stdin << b"content" << CLOSED


def test_a_script_need_not_read(cgi: Talk) -> None:
    cgi.client >> b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n"
    cgi.script.stdin.room = 10
    for _ in range(5):
        cgi.client >> b"x" * 60_000
    assert cgi.client.on_the_way
    cgi.script.stdin >> LOST
    assert not cgi.client.on_the_way  # read and dropped
    cgi.script.stdout >> HEAD + b"hello"
    end(cgi)
    assert cgi.client.answer().content == b"hello"


def test_a_script_may_answer_before_it_has_read(cgi: Talk) -> None:
    cgi.client >> b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello"
    cgi.script.stdout >> HEAD + b"early"
    end(cgi)
    assert cgi.client.answer().content == b"early"
    cgi.client >> b"world"
    cgi.client.get()
    cgi.script.stdout >> HEAD + b"second"
    end(cgi)
    assert cgi.client.answer().content == b"second"


# ---------------------------------------------------------------------- the end (29, 78, 79)


def test_the_end_of_stdout_waits_a_moment_for_the_exit_status(cgi: Talk) -> None:
    cgi.client.get()
    cgi.script.stdout >> HEAD + b"hello" >> EOF
    assert cgi.site.exchanges == 1
    cgi.script.exit()
    assert cgi.client.answer().complete


def test_a_script_that_goes_on_after_its_output_has_ended(cgi: Talk) -> None:
    cgi.client.get()
    cgi.script.stdout >> HEAD + b"hello" >> EOF
    cgi.wait(1)
    assert cgi.client.answer().complete
    assert cgi.interface().running == 1
    cgi.script.exit()
    assert cgi.interface().running == 0


def test_a_script_may_tidy_up_after_its_output_and_is_ended_then(cgi: Talk) -> None:
    """It has its place among `processes` until it is gone, and may not keep it for ever."""
    cgi.client.get()
    cgi.script.stdout >> HEAD + b"hello" >> EOF
    cgi.wait(2)
    assert cgi.client.answer().complete
    assert cgi.kills == []
    cgi.wait(1)
    assert cgi.kills == [(100, TERM)]
    assert "goes on after the end of its output" in cgi.log.text
    cgi.wait(2.5)
    assert cgi.kills == [(100, TERM), (100, KILL)]


def test_a_script_that_has_closed_its_output_before_its_client_left_is_ended_too(talk: Talks) -> None:
    one = talk(route("cgi", on_disconnect="continue"))
    one.client.get()
    one.client >> LOST
    one.script.stdout >> EOF
    one.wait(3)
    assert one.kills == [(100, TERM)]


def test_an_exit_status_is_logged_and_the_response_stands(cgi: Talk) -> None:
    cgi.client.get()
    cgi.script.stdout >> HEAD + b"hello"
    end(cgi, 3)
    assert cgi.client.answer().complete
    assert "exited with status 3" in cgi.log.text


def test_a_script_killed_in_the_middle_breaks_the_response(cgi: Talk) -> None:
    cgi.client.get()
    cgi.script.stdout >> HEAD + b"hello"
    cgi.script.exit(-9)
    cgi.script.stdout >> EOF
    assert not cgi.client.answer().complete
    assert "killed by SIGKILL" in cgi.log.text


def test_where_the_end_of_the_connection_is_the_end_of_the_content_a_killed_script_resets_it(cgi: Talk) -> None:
    cgi.client.get(version="1.0")
    cgi.script.stdout >> HEAD + b"hello"
    cgi.script.exit(-9)
    cgi.script.stdout >> EOF
    assert cgi.client.take().endswith(b"hello")
    assert cgi.client.got == [LOST]


def test_a_script_killed_before_its_header_is_502(cgi: Talk) -> None:
    cgi.client.get()
    end(cgi, -11)
    assert cgi.client.answer().status == 502


def test_a_grandchild_that_holds_stdout_does_not_hold_the_response(cgi: Talk) -> None:
    cgi.client.get()
    cgi.script.stdout >> HEAD + b"hello"
    cgi.script.exit()
    assert cgi.site.exchanges == 1
    cgi.wait(2.5)
    assert cgi.client.answer().complete
    assert cgi.kills == [(100, KILL)]


def test_a_script_without_a_header_is_502_with_its_stderr_in_the_log(cgi: Talk) -> None:
    cgi.client.get()
    cgi.script.stderr >> b"Traceback: no such module\n"
    end(cgi, 1)
    assert cgi.client.answer().status == 502
    assert "stderr: Traceback: no such module" in cgi.log.text
    assert "printed nothing" in cgi.log.text


def test_a_bad_header_ends_the_script(cgi: Talk) -> None:
    cgi.client.get()
    cgi.script.stdout >> b"<html>\n\n"
    assert cgi.client.answer().status == 502
    assert cgi.kills == [(100, TERM)]


def test_nph_is_passed_and_needs_a_status_line(talk: Talks) -> None:
    one = talk(route("cgi", script=b"/srv/nph-x"))
    one.client.get()
    one.script.stdout >> b"HTTP/1.0 201 Made\n\nhello"
    end(one)
    answer = one.client.answer()
    assert (answer.status, answer.content, answer.fields["connection"]) == (201, b"hello", "close")
    assert one.client.got == [CLOSED]
    other = one.connect()
    other.get()
    one.script.stdout >> HEAD
    assert other.answer().status == 502


# ---------------------------------------------------------------------- processes that do not start (21, 73)


def test_a_process_that_does_not_start_is_explained_and_the_next_one_runs(talk: Talks) -> None:
    one = talk(route("cgi", processes=1))
    one.starts = False
    one.client.get()
    other = one.connect()
    other.get()
    one.fail(errno.ENOEXEC)
    assert one.client.answer().status == 500
    assert "not-started" in one.log.text
    one.start()
    one.script.stdout >> HEAD + b"x"
    end(one)
    assert other.answer().content == b"x"


# ---------------------------------------------------------------------- the client leaves (30)


def test_a_client_that_leaves_ends_the_script_and_its_group(cgi: Talk) -> None:
    cgi.client.get()
    cgi.client >> LOST
    assert cgi.kills == [(100, TERM)]
    cgi.wait(2.5)
    assert cgi.kills == [(100, TERM), (100, KILL)]
    cgi.script.exit(-9)
    assert cgi.interface().running == 0


def test_what_a_script_that_obeys_leaves_behind_in_its_group_is_killed(cgi: Talk) -> None:
    """Whether there is anybody is for the reaper to know, which signals no group that has gone."""
    cgi.client.get()
    cgi.client >> LOST
    cgi.script.exit(-15)
    assert cgi.interface().running == 0
    cgi.wait(3)
    assert cgi.kills == [(100, TERM), (100, KILL)]


def test_a_client_that_leaves_before_the_process_is_there(cgi: Talk) -> None:
    cgi.starts = False
    cgi.client.get()
    cgi.client >> LOST
    cgi.start()
    assert cgi.kills == [(100, TERM)]


def test_a_script_may_go_on_without_its_client(talk: Talks) -> None:
    one = talk(route("cgi", on_disconnect="continue"))
    one.client.post("/", b"content")
    one.client >> LOST
    one.wait(3)
    assert one.kills == []
    one.script.stdin << b"content" << CLOSED
    one.script.stdout >> HEAD + b"x" * 100_000
    assert not one.script.stdout.on_the_way  # read and dropped
    end(one)
    assert one.interface().running == 0


CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_a_script_that_goes_on_gets_all_content_that_was_kept(talk: Talks) -> None:
    one = talk(route("cgi", on_disconnect="continue"))
    one.starts = False
    one.client >> CHUNKED
    for _ in range(10):
        one.client >> b"10000\r\n" + b"x" * 65536 + b"\r\n"
    one.client >> b"0\r\n\r\n"
    script = one.start(room=100_000)
    one.client >> LOST
    script.stdin.takes_all()
    assert script.environment[b"CONTENT_LENGTH"] == b"655360"
    script.stdin << b"x" * 655_360 << CLOSED
    end(one)


def test_content_that_was_kept_until_the_process_is_there_outlives_the_client(talk: Talks) -> None:
    one = talk(route("cgi", on_disconnect="continue"))
    one.starts = False
    one.client.post("/", b"content")
    one.client >> LOST
    one.start().stdin << b"content" << CLOSED
    end(one)


def test_a_script_that_goes_on_and_does_not_read_keeps_nothing(talk: Talks) -> None:
    one = talk(route("cgi", on_disconnect="continue"))
    one.starts = False
    one.client >> CHUNKED + b"20000\r\n" + b"x" * 131_072 + b"\r\n0\r\n\r\n"
    script: Any = one.start(room=0)
    one.client >> LOST
    assert script.order.child.kept.length == 131_072
    script.stdin >> LOST
    assert script.order.child.kept is None
    end(one)


# ---------------------------------------------------------------------- the server ends (69)


def test_at_the_end_of_the_server_every_script_is_ended(talk: Talks) -> None:
    one = talk(route("cgi", processes=3, on_disconnect="continue"))
    clients = [one.client, *(one.connect() for _ in range(3))]
    for client in clients:
        client.get()
    one.scripts[1].stdout >> HEAD + b"half"
    clients[2] >> LOST
    one.interface().close()
    one.settle()
    assert clients[0].answer().status == 503
    assert not clients[1].answer().complete
    assert clients[3].answer().status == 503  # it stood in line
    assert "503 stopping" in one.log.text
    assert sorted(one.kills) == [(100, TERM), (101, TERM), (102, TERM)]
    one.interface().close()
    one.wait(2.5)
    assert sorted(one.kills[3:]) == [(100, KILL), (101, KILL), (102, KILL)]
    for script in one.scripts:
        script.exit(-9)
    assert (len(one.scripts), one.interface().running) == (3, 0)


def test_a_process_that_starts_when_the_server_ends_is_ended(cgi: Talk) -> None:
    cgi.starts = False
    cgi.client.get()
    cgi.interface().close()
    cgi.start()
    assert cgi.kills == [(100, TERM)]


# ---------------------------------------------------------------------- time (31)


def test_no_head_in_time_is_504_and_ends_the_script(talk: Talks) -> None:
    one = talk(route("cgi", response_s=2.0))
    one.client.get()
    one.wait(2.5)
    assert one.client.answer().status == 504
    assert one.kills == [(100, TERM)]


def test_silence_in_the_middle_is_cut(talk: Talks) -> None:
    one = talk(route("cgi", read_s=2.0))
    one.client.get()
    one.script.stdout >> HEAD + b"half"
    one.wait(2.5)
    assert not one.client.answer().complete


# ---------------------------------------------------------------------- the line


def test_so_many_scripts_run_and_so_many_wait(talk: Talks) -> None:
    one = talk(route("cgi", processes=2, queue=1))
    clients = [one.client, *(one.connect() for _ in range(3))]
    for client in clients:
        client.get()
    assert len(one.scripts) == 2
    assert clients[3].answer().status == 503
    one.scripts[0].stdout >> HEAD + b"0" >> EOF
    one.scripts[0].exit()
    assert len(one.scripts) == 3
    assert clients[0].answer().content == b"0"


def test_who_leaves_the_line_is_not_served(talk: Talks) -> None:
    one = talk(route("cgi", processes=1))
    second, third = one.connect(), one.connect()
    for client in (one.client, second, third):
        client.get()
    second >> LOST
    one.script.stdout >> HEAD
    end(one)
    assert len(one.scripts) == 2
    one.script.stdout >> HEAD + b"third"
    end(one)
    assert third.answer().content == b"third"


def test_one_waits_in_line_no_longer_than_for_a_response(talk: Talks) -> None:
    one = talk(route("cgi", processes=1, response_s=2.0))
    one.client.get()
    one.script.stdout >> HEAD
    other = one.connect()
    other.get()
    one.wait(2.5)
    assert other.answer().status == 503
    assert not one.interface().waiting


# ---------------------------------------------------------------------- redirects and back-pressure


def test_a_local_redirect(cgi: Talk) -> None:
    cgi.client.post("/a", b"content")
    cgi.script.stdout >> b"Location: /b\n\n"
    assert len(cgi.scripts) == 2
    assert cgi.script.environment[b"REQUEST_METHOD"] == b"GET"
    cgi.script.stdout >> HEAD + b"b"
    end(cgi)
    assert cgi.client.answer().content == b"b"


def test_a_local_redirect_to_no_path_is_the_fault_of_the_script(cgi: Talk) -> None:
    cgi.client.get("/a")
    cgi.script.stdout >> b"Location: /has space\n\n"
    assert cgi.client.answer().status == 502
    assert "error exchange=" in cgi.log.text
    assert "/srv/script.cgi: Location is '/has space'" in cgi.log.text


def test_a_redirect_loop_is_500(cgi: Talk) -> None:
    cgi.client.get("/a")
    for _ in range(11):
        cgi.script.stdout >> b"Location: /a\n\n"
    assert cgi.client.answer().status == 500
    assert len(cgi.scripts) == 11


def test_a_client_that_does_not_read_holds_the_script_back(cgi: Talk) -> None:
    cgi.client.room = 10
    cgi.client.get()
    cgi.script.stdout >> HEAD + b"x" * 60_000
    cgi.script.stdout >> b"y" * 60_000
    assert cgi.script.stdout.on_the_way
    cgi.script.stderr >> b"stderr is always read\n"
    assert "always read" in cgi.log.text
    cgi.client.takes_all()
    end(cgi)
    assert len(cgi.client.answer().content) == 120_000


def test_a_held_back_script_that_has_exited_loses_nothing(cgi: Talk) -> None:
    """The client reads slowly, the script is long gone: its last output is still in the pipe."""
    cgi.client.room = 10
    cgi.client.get()
    cgi.script.stdout >> HEAD + b"x" * 60_000
    cgi.script.stdout >> b"y" * 60_000
    cgi.script.stdout >> EOF
    cgi.script.exit()
    cgi.wait(10)
    cgi.client.takes_all()
    answer = cgi.client.answer()
    assert (len(answer.content), answer.complete) == (120_000, True)


def test_a_local_redirect_before_the_content_has_come(cgi: Talk) -> None:
    """What the client still sends belongs to nobody, and least of all to the request that is made in its place."""
    cgi.client >> b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello"
    cgi.script.stdout >> b"Location: /b\n\n"
    assert cgi.script.order.stdin is None
    cgi.client >> b"wo"
    cgi.script.stdout >> HEAD + b"b"
    end(cgi)
    assert cgi.client.answer().content == b"b"
    cgi.client >> b"rld" + b"GET /c HTTP/1.1\r\nHost: x\r\n\r\n"
    assert cgi.script.environment[b"REQUEST_URI"] == b"/c"
    cgi.script.stdout >> HEAD + b"c"
    end(cgi)
    assert cgi.client.answer().content == b"c"


def test_a_grandchild_that_goes_on_printing_is_heard_to_its_end(cgi: Talk) -> None:
    cgi.client.get()
    cgi.script.stdout >> HEAD
    cgi.script.exit()
    for _ in range(4):
        cgi.wait(1.5)
        cgi.script.stdout >> b"x"
    cgi.script.stdout >> EOF
    answer = cgi.client.answer()
    assert (answer.content, answer.complete) == (b"xxxx", True)


def test_a_local_redirect_of_a_client_that_was_asked_for_its_content(cgi: Talk) -> None:
    cgi.starts = False
    cgi.client >> b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"
    cgi.start()
    cgi.client << b"HTTP/1.1 100 Continue\r\n\r\n"
    cgi.script.stdout >> b"Location: /b\n\n"
    cgi.start()
    cgi.script.stdout >> HEAD + b"b"
    end(cgi)
    assert cgi.client.answer().content == b"b"
    cgi.client >> b"helloworld" + b"GET /c HTTP/1.1\r\nHost: x\r\n\r\n"
    assert cgi.start().environment[b"REQUEST_URI"] == b"/c"
