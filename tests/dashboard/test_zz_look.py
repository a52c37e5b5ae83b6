import pytest
from tests.dashboard.conftest import Opened
pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("stack")]

def test_look(opened: Opened, api, post_job, taught) -> None:
    job = post_job("a wide enough name for a row, running", 400)
    w = opened("/", viewport={"width": 1320, "height": 700}); g = w.page
    g.wait_for_timeout(12000)
    print("TABLE", g.evaluate("[...document.querySelectorAll('.scroll')].map(e=>[e.clientWidth,e.scrollWidth])"))
    g.screenshot(path="/tmp/dash/lv-jobs.png")
    g.set_viewport_size({"width": 360, "height": 740}); g.wait_for_timeout(400); g.screenshot(path="/tmp/dash/lv-jobs-ph.png")
    w = opened(f"/#/jobs/{job}?tab=log", viewport={"width": 1320, "height": 900}, color_scheme="dark"); g = w.page
    g.wait_for_timeout(6000); g.screenshot(path="/tmp/dash/lv-job.png", full_page=True)
    print([x for x in w.requests if "/events" in x or "metrics" in x])
    print(g.inner_text(".section-head .num"))
    for x in ("Step", "Time"):
        g.get_by_role("group", name="X axis").get_by_role("button", name=x).click(); g.wait_for_timeout(700); print(x, g.inner_text(".charts .summary >> nth=0")[:120])
    g.goto("/#/new"); g.get_by_role("combobox", name="Architecture", exact=True).click(); g.keyboard.type("resnet20"); g.wait_for_timeout(1500); g.screenshot(path="/tmp/dash/lv-combo.png")
    g.goto(f"/#/compare?jobs={taught['id']}"); g.get_by_role("combobox", name="Add a job").fill("t"); g.wait_for_timeout(1500); g.screenshot(path="/tmp/dash/lv-add.png")
    api.post(f"/v1/jobs/{job}/cancel")
    w2 = opened("/"); h = w2.page; h.wait_for_timeout(500)
    h.route("**/pages/frontier.js", lambda r: r.fulfill(status=200, content_type="text/javascript", body="export const mount = () => { throw new Error('as a test'); };"))
    h.goto("/#/frontier"); h.wait_for_timeout(800); h.screenshot(path="/tmp/dash/lv-broken.png"); print(h.inner_text("main"))
    w2.complaints.clear()
    h.goto("/#/compare"); h.wait_for_timeout(800); print(h.inner_text("main")[:60])
