"""The form of an uploaded file: what it shows and offers."""

import json
import re

from starlette.testclient import TestClient

from models.db import Database
from tests.factories.hostile import HOSTILE, HOSTILE_NAME, assert_shown_as_text
from tests.factories.page_clients import csrf_token
from tests.factories.submit_pages import PIPELINE, batch_of, form_of, inputs_of, submit, uploaded


def test_it_shows_what_is_in_the_file(browser: TestClient) -> None:
    page = browser.get(uploaded(browser)).text

    assert '<span class="column-name">review</span> <span class="tag tag-role">input text</span>' in page
    assert '<td class="text">a fine day</td>' in page
    assert '<option value="review" selected>' in page
    assert "automatic: id" in page
    assert "Submit 2 rows" in page
    assert f"o worker serves {PIPELINE} now" in page


def test_the_address_fills_the_form(browser: TestClient) -> None:
    address = uploaded(browser)

    page = browser.get(f"{address}&column.text=id&parameter.top_k=3&name=deep&keep=stars&deadline=6h").text

    assert '<option value="id" selected>' in page
    assert 'name="parameter.top_k" value="3"' in page
    assert 'name="name" value="deep"' in page
    assert 'name="keep" value="stars" checked' in page
    assert "<details open>" in page


def test_parameters_have_their_limits(browser: TestClient) -> None:
    address = uploaded(browser).partition("?")[0]

    page = browser.get(address, params={"pipeline": "sample-text-generation"}).text

    assert re.search(r'<input type="number" id="parameter.max_new_tokens"[^>]* min="1" max="256', page)
    assert "more parameters</summary>" in page
    assert '<select id="parameter.do_sample"' in page


def test_an_optional_field_has_the_column_of_its_name(browser: TestClient) -> None:
    address = uploaded(browser, b"text,text_pair\na,b\n")

    page = browser.get(f"{address}&column.text_pair=").text

    assert '<option value="text_pair" selected>' in page.partition('id="column.text_pair"')[2].partition("</select>")[0]
    assert ">none</option>" not in page.partition('id="column.text_pair"')[2].partition("</select>")[0]


def test_hostile_content_is_text(browser: TestClient) -> None:
    row = {HOSTILE_NAME: HOSTILE, "id": HOSTILE}

    page = browser.get(uploaded(browser, json.dumps(row).encode(), f"{HOSTILE_NAME}.jsonl")).text

    assert_shown_as_text(page)
    assert "more characters)" in page
    assert len(page) < 200_000


def test_each_of_many_columns_can_be_chosen(browser: TestClient) -> None:
    names = [f"c{number}" for number in range(70)]
    row = ",".join(["1"] * 70)
    content = f"{','.join(names)},review\n{row},a fine day\n".encode()

    page = browser.get(uploaded(browser, content)).text

    assert '<option value="review" selected>' in page
    assert '<td class="text">a fine day</td>' in page  # the input is shown, wherever it stands in the file
    assert '<span class="column-name">c49</span>' in page
    assert '<span class="column-name">c50</span>' not in page
    assert "20 more columns can be chosen below." in page
    assert '<option value="c69">' in page
    assert 'name="keep" value="c69"' in page


def test_a_column_of_hundreds_is_typed(browser: TestClient, database: Database) -> None:
    names = [f"c{number}" for number in range(600)]
    address = uploaded(browser, f"{','.join(names)}\n{','.join(['a fine day'] * 600)}\n".encode())

    page = browser.get(address).text
    response = submit(browser, address, **{"column.text": "c599", "id_column": "c1"})

    assert '<input type="text" id="column.text"' in page
    assert "type the name of one that is not in the list" in page
    assert inputs_of(database, batch_of(response)) == [("a fine day", "a fine day")]


def test_rows_with_the_same_problem_are_one_sentence(browser: TestClient) -> None:
    content = "id,review\n" + "1,schön\n" * 8

    page = browser.get(uploaded(browser, content.encode("latin-1"))).text

    assert "8 of the first 8 rows can&#39;t be read:" in page or "8 of the first 8 rows can't be read:" in page
    assert "lines 2, 3, 4, 5, 6, …: is not UTF-8 at byte 6 (0xf6); save the file as UTF-8" in page


def test_a_table_without_a_header_is_noticed(browser: TestClient) -> None:
    ordinary = browser.get(uploaded(browser)).text
    page = browser.get(uploaded(browser, b"17,<script>alert(1)</script>,4.5\n23,bad,1.0\n", "a.csv")).text

    assert "The first line is taken as the names of the columns" in page
    assert "<script>alert" not in page
    assert "is taken as the names" not in ordinary


def test_a_table_without_a_header_has_the_names_of_the_form(browser: TestClient, database: Database) -> None:
    address = uploaded(browser, b"17,<script>alert(1)</script>\n23,a bad day\n", "a.csv").partition("?")[0]
    names = {"column_names": 'id,"review, long"'}

    doubtful = browser.get(address).text
    page = browser.get(address, params=names)
    wrong = browser.get(address, params={"column_names": "<script>alert(1)</script>"}).text
    form = {**form_of(page.text), **names, "column.text": "review, long"}
    check = browser.post(f"{address}/check", data=form).text
    response = browser.post(address, data=form)

    assert "name the columns in the form" in doubtful
    assert '<label for="column_names">Names of the columns</label>' in doubtful
    assert '<span class="column-name">review, long</span>' in page.text
    assert 'type="hidden" name="column_names" value="id,&#34;review, long&#34;"' in page.text
    assert "Submit 2 rows" in page.text
    assert "has 2 cells in line 1, and 1 column name" in wrong
    assert "<script>alert" not in page.text + wrong + check
    assert "All rows can be jobs." in check
    assert inputs_of(database, batch_of(response)) == [("17", "<script>alert(1)</script>"), ("23", "a bad day")]


def test_other_files_have_no_names_to_give(browser: TestClient) -> None:
    address = uploaded(browser, b'{"text": "a fine day"}\n', "a.jsonl").partition("?")[0]

    assert 'name="column_names"' not in browser.get(address).text
    assert "column names are for CSV and TSV" in browser.get(address, params={"column_names": "text"}).text


def test_a_file_that_cannot_be_read_says_why(browser: TestClient) -> None:
    page = browser.get(uploaded(browser, b"PK\x03\x04", "sheet.csv")).text

    assert "is a ZIP or Excel file; unpack it, or save the sheet as CSV (UTF-8)" in page
    assert 'id="submission"' not in page


def test_openais_lines_have_another_way(browser: TestClient) -> None:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"input": "a"}}
    address = uploaded(browser, json.dumps(line).encode(), "a.jsonl")

    assert "POST /v1/batches" in browser.get(address).text


def test_a_file_that_was_submitted_says_so(browser: TestClient) -> None:
    address = uploaded(browser)
    assert "made from this file" not in browser.get(address).text

    batch_id = batch_of(submit(browser, address, name="nightly"))

    page = browser.get(address).text
    assert "1 batch was made from this file:" in page
    assert f'<a href="/batches/{batch_id}">nightly</a>' in page


def test_an_unknown_file_is_none(browser: TestClient) -> None:
    for path in ("/submit/files/file-x", "/submit/files/file-x/delete"):
        assert browser.get(path).status_code == 404
        assert browser.post(path, data={"csrf_token": csrf_token(browser)}).status_code == 404
    assert browser.post("/submit/files/file-x/check", data={"csrf_token": csrf_token(browser)}).status_code == 404
    assert browser.get("/submit/files/file-x/check").status_code == 404
