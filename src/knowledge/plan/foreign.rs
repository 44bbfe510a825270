//! What is counted or excluded in requests that are not English: a few patterns per language, no grammar.

/// Words before the thing that is counted.
const COUNT_BEFORE: [&str; 24] = [
    "cuántos ",
    "cuántas ",
    "cuantos ",
    "cuantas ",
    "combien de ",
    "combien d'",
    "wie viele ",
    "wieviele ",
    "anzahl der ",
    "quanti ",
    "quante ",
    "quantos ",
    "quantas ",
    "сколько ",
    "количество ",
    "número de ",
    "numero di ",
    "nombre de ",
    "多少个",
    "多少只",
    "多少",
    "几个",
    "几只",
    "几辆",
];

/// Words before the thing that must be absent.
const ABSENT_BEFORE: [&str; 22] = [
    " sin ",
    " sans ",
    " ohne ",
    " senza ",
    " sem ",
    " без ",
    "没有",
    "不含",
    "无",
    " excepto ",
    " sauf ",
    " außer ",
    " tranne ",
    " exceto ",
    " кроме ",
    " kein ",
    " keine ",
    " keinen ",
    " pas de ",
    " pas d'",
    " ningún ",
    " nenhum ",
];

/// Signs and words after which the thing has ended.
const ENDS: [&str; 48] = [
    " hay",
    " se ",
    " ves",
    " están",
    " en ",
    " y a",
    " sont",
    " dans",
    " sur",
    " sind",
    " stehen",
    " auf",
    " im ",
    " in ",
    " sieht",
    " ci ",
    " sono",
    " nella",
    " nel ",
    " há",
    " tem",
    " estão",
    " na ",
    " no ",
    " em ",
    " на ",
    " в ",
    " есть",
    " y ",
    " und ",
    " et ",
    " e ",
    " и ",
    "在",
    "有",
    "的",
    "？",
    "?",
    ".",
    ",",
    "，",
    "。",
    " aparecen",
    " gibt",
    " peut",
    " vedi",
    " você",
    " видно",
];

/// Words after the thing that is counted, in languages that ask behind it.
const COUNT_AFTER: [&str; 14] = [
    "は何",
    "が何",
    "は いく",
    "はいく",
    "がいく",
    "の数",
    "の人数",
    "이 몇",
    "가 몇",
    "은 몇",
    "는 몇",
    " 몇",
    " 개수",
    "를 세",
];

/// Words after the thing that must be absent.
const ABSENT_AFTER: [&str; 9] =
    ["のない", "がない", "のいない", "がいない", "なしの", "以外", " 없는", "이 없는", "가 없는"];

/// The thing counted.
pub fn counted(request: &str) -> Option<String> {
    before(request, &COUNT_BEFORE).or_else(|| after(request, &COUNT_AFTER))
}

/// The thing that must be absent.
pub fn absent(request: &str) -> Option<String> {
    before(request, &ABSENT_BEFORE).or_else(|| after(request, &ABSENT_AFTER))
}

fn before(request: &str, starts: &[&str]) -> Option<String> {
    let text = format!(" {} ", request.to_lowercase());
    let (at, start) =
        starts.iter().filter_map(|start| text.find(start).map(|at| (at, *start))).max_by_key(|(_, s)| s.len())?;
    let rest = text.get(at + start.len()..)?;
    let end = ENDS.iter().filter_map(|end| rest.find(end)).filter(|end| *end > 0).min().unwrap_or(rest.len());
    let thing = rest.get(..end)?.trim();
    (!thing.is_empty()).then(|| thing.to_owned())
}

fn after(request: &str, ends: &[&str]) -> Option<String> {
    let at = ends.iter().filter_map(|end| request.find(end)).min()?;
    let head = request.get(..at)?;
    // The word before: back to a particle, a comma, or a space.
    let start = head
        .rfind(['の', 'に', 'で', '、', ' ', ',', 'は'])
        .map_or(0, |at| at + head[at..].chars().next().map_or(1, char::len_utf8));
    let thing = head.get(start..)?.trim();
    (!thing.is_empty()).then(|| thing.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{absent, counted};

    #[test]
    fn things_are_found_in_nine_languages() {
        for (request, thing) in [
            ("¿Cuántos perros hay en la foto?", "perros"),
            ("combien de chats y a-t-il ?", "chats"),
            ("Wie viele Autos stehen auf dem Parkplatz?", "autos"),
            ("quante sedie ci sono", "sedie"),
            ("quantas pessoas há na praia", "pessoas"),
            ("Сколько людей на фото?", "людей"),
            ("图中有几个人？", "人"),
            ("写真に犬は何匹いますか", "犬"),
            ("사진에 고양이가 몇 마리 있나요", "고양이"),
        ] {
            assert_eq!(counted(request).as_deref(), Some(thing), "{request}");
        }
        for (request, thing) in [
            ("cocina sin nevera", "nevera"),
            ("une table sans nappe", "nappe"),
            ("Straße ohne Autos", "autos"),
            ("cozinha sem geladeira", "geladeira"),
            ("улица без машин", "машин"),
            ("没有人的街道", "人"),
            ("人のいない海岸", "人"),
            ("사람 없는 거리", "사람"),
        ] {
            assert_eq!(absent(request).as_deref(), Some(thing), "{request}");
        }
    }
}
