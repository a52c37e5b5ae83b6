"""Login by link and by key, and logout."""

import pytest
from playwright.sync_api import expect

from stillhouse.local import Stack
from tests.dashboard.conftest import OpenPage

pytestmark = pytest.mark.browser


def test_login_link_works_once(open_page: OpenPage, stack: Stack) -> None:
    link = stack.login_link()
    assert link
    page = open_page(link, key=None).page
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    assert "code" not in page.url
    page = open_page(link, key=None).page
    expect(page.get_by_role("alert")).to_contain_text("does not work any more")
    expect(page.get_by_label("API key")).to_be_focused()


def test_login_with_a_key_opens_the_requested_page(open_page: OpenPage, stack: Stack) -> None:
    page = open_page("/#/jobs?state=failed", key=None).page
    page.get_by_label("API key").fill("stk_wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("not known")
    page.get_by_label("API key").fill(stack.api_key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Failed")).to_have_attribute("aria-current", "true")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    page.goto("/")
    expect(page.get_by_label("API key")).to_be_visible()
