//! The page in a real browser: Chromium, moved by chromedriver through WebDriver's HTTP interface, with JavaScript
//! switched off, since the page is to work without.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use hermitage_suite::ask::Answer;
use hermitage_suite::stack::{Service, Stack};
use hermitage_suite::{ask, picture, wait_for};
use serde_json::{Value, json};

/// The key of an element's id, by the standard of WebDriver.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser; it ends with the test.
struct Browser {
    driver: Child,
    session: String,
}

impl Browser {
    fn start() -> Self {
        let mut driver = Command::new("chromedriver")
            .args(["--port=0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is installed");
        let stdout = driver.stdout.take().expect("stdout is piped");
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let port = lines
            .find_map(|line| {
                Some(
                    line.split_once("started successfully on port ")?
                        .1
                        .trim_matches('.')
                        .to_owned(),
                )
            })
            .expect("chromedriver tells its port");
        let mut browser = Self {
            driver,
            session: format!("http://127.0.0.1:{port}/session"),
        };
        // Somebody must read on, or chromedriver waits when the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        // Without its sandbox, which root cannot have; it sees nothing but our page.
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1200,900",
        ];
        let options = json!({
            "args": arguments,
            "prefs": { "profile.managed_default_content_settings.javascript": 2 },
        });
        let session = browser.post(
            "",
            &json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } }),
        );
        let id = session["sessionId"].as_str().expect("a session has an id");
        browser.session = format!("{}/{id}", browser.session);
        browser
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        value(&ask::post_body(
            &format!("{}{path}", self.session),
            "application/json",
            body.to_string(),
        ))
    }

    fn get(&self, path: &str) -> Value {
        value(&ask::get(&format!("{}{path}", self.session)))
    }

    fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// An element by a CSS selector, if it is there now.
    fn find(&self, selector: &str) -> Option<String> {
        let found = self.post(
            "/elements",
            &json!({ "using": "css selector", "value": selector }),
        );
        Some(found.as_array()?.first()?.get(ELEMENT)?.as_str()?.to_owned())
    }

    fn element(&self, selector: &str) -> String {
        wait_for(selector, || self.find(selector))
    }

    fn text(&self, selector: &str) -> String {
        let element = self.element(selector);
        self.get(&format!("/element/{element}/text"))
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    fn property(&self, element: &str, name: &str) -> Value {
        self.get(&format!("/element/{element}/property/{name}"))
    }

    /// Keeps a picture of the page beside the test's other output, for people.
    fn screenshot(&self, name: &str) {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let text = self.get("/screenshot");
        let picture = picture::convert(
            format!("data:image/png;base64,{}", text.as_str().unwrap_or_default()).as_bytes(),
            &["inline:-", "png:-"],
        );
        std::fs::write(folder.join(name), picture).expect("the folder is writable");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends Chromium, too, which killing its driver would not.
        let _ = minreq::delete(&self.session).with_timeout(10).send();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn value(answer: &Answer) -> Value {
    let body: Value = serde_json::from_slice(&answer.body).expect("WebDriver speaks JSON");
    body["value"].clone()
}

#[test]
fn a_picture_is_uploaded_by_the_form_and_its_inverse_is_seen() {
    let mut stack = Stack::start(0);
    let ui = Service::ui(stack.kv.endpoint());
    let photograph = picture::convert(
        b"",
        &[
            "-size",
            "320x200",
            "-seed",
            "7",
            "plasma:orange-purple",
            "png24:-",
        ],
    );
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("photograph.png");
    std::fs::write(&file, &photograph).expect("the folder is writable");

    let browser = Browser::start();
    browser.open(&ui.at("/"));
    assert!(browser.text("main").contains("NO RESULT FOUND!"));
    let input = browser.element("input[type=file]");
    browser.post(
        &format!("/element/{input}/value"),
        &json!({ "text": file.to_str() }),
    );
    let button = browser.element("button");
    browser.post(&format!("/element/{button}/click"), &json!({}));

    // The page goes by itself from the upload to the task, which nobody works on yet.
    assert_eq!(browser.text(".state.ready"), "ready");
    assert!(browser.text("main").contains("NO RESULT FOUND!"));
    assert!(browser.find("img[src^='data:']").is_none());
    browser.screenshot("waiting.png");

    // And by itself to the result.
    stack.add_worker();
    let result = browser.element("img[src^='data:image/png']");
    assert_eq!(browser.text(".state"), "finished");
    for (name, expected) in [("naturalWidth", 320), ("naturalHeight", 200), ("complete", 1)] {
        let found = browser.property(&result, name);
        assert!(
            found == expected || (expected == 1 && found == true),
            "{name}: {found}"
        );
    }
    let source = browser.property(&result, "src");
    let inline = picture::convert(
        source.as_str().unwrap_or_default().as_bytes(),
        &["inline:-", "png24:-"],
    );
    assert!(picture::pixels(&inline) == picture::inverse(&photograph));
    browser.screenshot("result.png");

    // What is on the screen where the result is drawn is the result, not only what the page says.
    let text = browser.get(&format!("/element/{result}/screenshot"));
    let shown = format!("data:image/png;base64,{}", text.as_str().unwrap_or_default());
    let mean = |picture: &[u8], arguments: &[&str]| -> Vec<u8> {
        picture::convert(
            picture,
            &[
                arguments,
                &["-alpha", "off", "-resize", "1x1!", "-depth", "8", "rgb:-"],
            ]
            .concat(),
        )
    };
    let (seen, expected) = (
        mean(shown.as_bytes(), &["inline:-"]),
        mean(&photograph, &["-", "-negate"]),
    );
    let near = seen
        .iter()
        .zip(&expected)
        .all(|(seen, expected)| seen.abs_diff(*expected) < 12);
    assert!(near, "{seen:?} is seen, {expected:?} was expected");

    // The list shows both pictures, loaded.
    browser.open(&ui.at("/"));
    for kind in ["input", "result"] {
        let image = browser.element(&format!(".tasks img[src='/picture/0?of={kind}']"));
        let width = wait_for(kind, || {
            browser
                .property(&image, "naturalWidth")
                .as_u64()
                .filter(|width| *width > 0)
        });
        assert_eq!(width, 320);
    }
    browser.screenshot("list.png");
}
