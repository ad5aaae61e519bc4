//! The pages: plain HTML with one style sheet inside. They work without JavaScript, and ask for nothing from
//! elsewhere.

use hermitage_micro::task::State;

/// What the original says where no result is.
pub(crate) const NO_RESULT: &str = "NO RESULT FOUND!";

/// How often a page that waits for a result asks again, in seconds.
const REFRESH: u32 = 1;

/// A task in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) id: u64,
    pub(crate) state: State,
}

/// The newest tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct List {
    pub(crate) tasks: Vec<Task>,
    /// How many are in each state that some are in.
    pub(crate) counts: Vec<(State, u64)>,
    /// There are older ones than the last.
    pub(crate) more: bool,
}

/// A page in two halves, with a result's picture, in base64, to come in between.
pub(crate) struct Halves {
    pub(crate) before: String,
    pub(crate) after: String,
}

/// The page without a task: the form and the list. `fault` is why there is no list.
pub(crate) fn home(list: &Result<List, String>) -> String {
    let none = format!("<p class=\"none\">{NO_RESULT}<br>Upload a picture, or choose a task.</p>");
    let list = match list {
        Ok(list) if list.tasks.is_empty() => none,
        // Also here, where nobody looks for it, as in the original: no task was asked for.
        Ok(list) => format!(
            "{}<p class=\"soft\">No task is chosen: {NO_RESULT}</p>",
            tasks(list)
        ),
        Err(fault) => format!("<p class=\"none\">{NO_RESULT}<br>{}</p>", escape(fault)),
    };
    page("Tasks", None, &format!("{}{list}", form()))
}

/// The form alone.
pub(crate) fn upload() -> String {
    page("Upload", None, &form())
}

/// What is shown after an upload: the form again, and then the task's page.
pub(crate) fn uploaded(id: Option<u64>) -> String {
    let (refresh, text) = match id {
        Some(id) => (
            Some(format!("{REFRESH};url=/?taskId={id}")),
            format!("Your picture is <a href=\"/?taskId={id}\">task {id}</a>."),
        ),
        None => (None, "Your picture is uploaded.".to_owned()),
    };
    page(
        "Uploaded",
        refresh,
        &format!("<p class=\"card\">{text}</p>{}", form()),
    )
}

/// A task whose result is not there, or not yet.
pub(crate) fn without_result(id: Option<u64>, state: Option<State>, fault: &str) -> String {
    let (Some(id), Some(state)) = (id, state) else {
        let fault = escape(fault);
        return page(
            "No result",
            None,
            &format!("<p class=\"none card\">{NO_RESULT}<br>{fault}</p>"),
        );
    };
    let waits = matches!(state, State::Created | State::Ready | State::Leased);
    let words = match state {
        State::Created => "The picture is on its way.",
        State::Ready => "It waits for a worker.",
        State::Leased => "A worker is at it.",
        State::Finished => "The result is stored, but could not be read.",
        State::Failed => "It could not be inverted: it is no PNG or JPEG, or is damaged, or too large.",
    };
    let pair = pair(
        id,
        &format!("<div class=\"none\"><span>{NO_RESULT}<br>{words}</span></div>"),
    );
    let refresh = waits.then(|| REFRESH.to_string());
    page(
        &format!("Task {id}"),
        refresh,
        &format!("<section class=\"card\">{}{pair}</section>", title(id, state)),
    )
}

/// A task with its result.
pub(crate) fn with_result(id: u64) -> Halves {
    const HERE: &str = "\u{0}";
    let image = format!("<img alt=\"The inverted picture\" src=\"data:image/png;base64,{HERE}\">");
    let section = format!(
        "<section class=\"card\">{}{}</section>",
        title(id, State::Finished),
        pair(id, &image)
    );
    let page = page(&format!("Task {id}"), None, &section);
    let (before, after) = page.split_once(HERE).unwrap_or((&page, ""));
    Halves {
        before: before.to_owned(),
        after: after.to_owned(),
    }
}

fn page(title: &str, refresh: Option<String>, content: &str) -> String {
    let refresh = refresh.map_or(String::new(), |refresh| {
        format!("<meta http-equiv=\"refresh\" content=\"{refresh}\">\n")
    });
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n{refresh}\
         <title>{title} – Hermitage</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>\n{}</style>\n</head>\n<body>\n\
         <header><h1><a href=\"/\">In<b>vert</b></a></h1><span class=\"soft\">photographs, inverted</span></header>\n\
         <main>\n{content}\n</main>\n<footer>Hermitage</footer>\n</body>\n</html>\n",
        include_str!("page.css")
    )
}

fn form() -> String {
    "<form class=\"card\" action=\"/upload\" method=\"post\" enctype=\"multipart/form-data\">\
     <p>Choose a PNG or a JPEG; it comes back with every colour turned into its opposite.</p>\
     <input type=\"file\" name=\"image\" accept=\"image/png,image/jpeg\" required aria-label=\"Picture\">\
     <button>Invert</button></form>"
        .to_owned()
}

fn tasks(list: &List) -> String {
    let counts: Vec<_> = list
        .counts
        .iter()
        .map(|(state, count)| format!("<span class=\"state {state}\">{count} {state}</span>"))
        .collect();
    let tasks: Vec<_> = list.tasks.iter().map(task).collect();
    let older = match list.tasks.last() {
        Some(last) if list.more => format!("<nav><a href=\"/?before={}\">Older tasks</a></nav>", last.id),
        _ => String::new(),
    };
    format!(
        "<h2>Tasks</h2><p class=\"counts\">{}</p><ul class=\"tasks\">{}</ul>{older}",
        counts.join(""),
        tasks.join("\n")
    )
}

fn task(task: &Task) -> String {
    let Task { id, state } = *task;
    let result = match state {
        State::Finished => {
            format!(
                "<a href=\"/?taskId={id}\"><img loading=\"lazy\" alt=\"Result of task {id}\" \
                 src=\"/picture/{id}?of=result\"></a>"
            )
        }
        _ => "<div class=\"none\">no result</div>".to_owned(),
    };
    format!(
        "<li class=\"card\">{}<div class=\"pair\">{}{result}</div></li>",
        title(id, state),
        input(id)
    )
}

fn title(id: u64, state: State) -> String {
    format!(
        "<div class=\"title\"><a href=\"/?taskId={id}\">Task {id}</a><span class=\"state {state}\">{state}</span></div>"
    )
}

fn input(id: u64) -> String {
    format!("<img loading=\"lazy\" alt=\"Picture of task {id}\" src=\"/picture/{id}?of=input\">")
}

fn pair(id: u64, result: &str) -> String {
    format!(
        "<div class=\"pair\"><figure>{}<figcaption>uploaded</figcaption></figure>\
         <figure>{result}<figcaption>inverted</figcaption></figure></div>",
        input(id)
    )
}

/// Text that means itself in HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bug_12_a_page_has_a_result_only_if_there_is_one() {
        for state in State::ALL {
            let page = without_result(Some(7), Some(state), "");
            assert!(page.contains(NO_RESULT) && !page.contains("base64"), "{state}");
        }
        let halves = with_result(7);
        assert!(halves.before.ends_with("src=\"data:image/png;base64,") && halves.after.starts_with('"'));
        assert!(!halves.before.contains(NO_RESULT) && !halves.after.contains(NO_RESULT));
    }

    #[test]
    fn a_page_that_waits_asks_again_and_one_that_does_not_does_not() {
        let refreshes = |state| without_result(Some(7), Some(state), "").contains("http-equiv=\"refresh\"");
        assert!(refreshes(State::Ready) && refreshes(State::Leased));
        assert!(!refreshes(State::Failed) && !refreshes(State::Finished));
        assert!(!home(&Ok(List::default())).contains("http-equiv"));
    }

    #[test]
    fn what_others_say_is_text() {
        let page = without_result(None, None, "<script>\"a\"&");
        assert!(page.contains("&lt;script&gt;&quot;a&quot;&amp;") && !page.contains("<script"));
    }
}
