"""Getting in and out."""

import pytest
from playwright.sync_api import expect

from stillhouse.local import Stack
from tests.dashboard.conftest import Opened

pytestmark = pytest.mark.browser


def test_one_time_address_works_once(opened: Opened, stack: Stack) -> None:
    link = stack.login_link()
    assert link
    page = opened(link, key=None).page
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    assert "code" not in page.url
    page = opened(link, key=None).page
    expect(page.get_by_role("alert")).to_contain_text("does not work any more")
    expect(page.get_by_label("API key")).to_be_focused()


def test_pasted_key_leads_to_the_address_asked_for(opened: Opened, stack: Stack) -> None:
    page = opened("/#/jobs?state=failed", key=None).page
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
