//! Every fixed string of the reports, in English, Korean, Vietnamese and simplified Chinese.
//!
//! `{name}` is a place for a value, filled in by [`fill`]; a test checks that all four
//! languages have the same places. Adding a language is one more column.

use serde::Deserialize;
use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    #[default]
    En,
    Ko,
    Vi,
    Zh,
}

impl Language {
    #[cfg(test)]
    pub const ALL: [Language; 4] = [Language::En, Language::Ko, Language::Vi, Language::Zh];

    /// As in the configuration and in file names: `en`, `ko`, `vi`, `zh`.
    pub fn as_str(self) -> &'static str {
        match self {
            Language::En => "en",
            Language::Ko => "ko",
            Language::Vi => "vi",
            Language::Zh => "zh",
        }
    }

    /// For the `lang` attribute and the PDF (BCP 47).
    pub fn tag(self) -> &'static str {
        match self {
            Language::En => "en",
            Language::Ko => "ko",
            Language::Vi => "vi",
            Language::Zh => "zh-Hans",
        }
    }

    /// The one of four that is in this language.
    pub fn pick<T>(self, [en, ko, vi, zh]: [T; 4]) -> T {
        match self {
            Language::En => en,
            Language::Ko => ko,
            Language::Vi => vi,
            Language::Zh => zh,
        }
    }
}

/// Puts values into the places of a string of the table.
pub fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(text.len() + 32);
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        let (before, after) = rest.split_at(start);
        filled.push_str(before);
        rest = after;
        let Some(end) = after.find('}') else { break };
        let value = values.iter().find(|(name, _)| *name == &after[1..end]);
        filled.push_str(value.map_or("", |(_, value)| value));
        rest = &after[end + 1..];
    }
    filled + rest
}

macro_rules! words {
    ($($key:ident: $en:literal, $ko:literal, $vi:literal, $zh:literal;)*) => {
        /// The strings of one language; templates reach them as `w.<key>`.
        #[derive(Debug, Clone, Serialize)]
        pub struct Words {
            $(pub $key: &'static str,)*
        }

        impl Words {
            pub fn of(language: Language) -> Words {
                Words { $($key: language.pick([$en, $ko, $vi, $zh]),)* }
            }
        }

        #[cfg(test)]
        const TABLE: &[(&str, [&str; 4])] = &[$((stringify!($key), [$en, $ko, $vi, $zh]),)*];
    };
}

words! {
    title: "Preliminary report", "예비 판독 보고서", "Báo cáo kết quả sơ bộ", "初步报告";
    preliminary: "PRELIMINARY", "예비 판독 · PRELIMINARY", "SƠ BỘ · PRELIMINARY", "初步报告 · PRELIMINARY";
    preliminary_line:
        "Preliminary report by software. A physician has not verified it. It is not a diagnosis.",
        "소프트웨어가 작성한 예비 판독입니다. 의사가 확인하지 않았으며 진단이 아닙니다.",
        "Báo cáo sơ bộ do phần mềm tạo ra. Chưa được bác sĩ xác nhận. Không phải là chẩn đoán.",
        "由软件生成的初步报告，未经医师审核，不是诊断。";
    page_of: "Page {page} of {pages}", "{pages}쪽 중 {page}쪽", "Trang {page}/{pages}", "第 {page} 页，共 {pages} 页";
    revision: "Revision {n}", "{n}차 개정", "Bản sửa đổi {n}", "第 {n} 版";
    revision_note:
        "Images arrived after the earlier report, or they were read again. This revision takes its place.",
        "이전 보고서 이후에 영상이 추가로 도착했거나 다시 판독하여 이 개정본이 이전 보고서를 대체합니다.",
        "Có thêm hình ảnh sau báo cáo trước, hoặc hình ảnh được đọc lại. Bản này thay thế báo cáo trước.",
        "前次报告之后又收到图像，或已重新阅片，本版取代前次报告。";

    patient: "Patient", "환자", "Bệnh nhân", "患者";
    patient_id: "Patient ID", "환자 ID", "Mã bệnh nhân", "患者编号";
    born: "Date of birth", "생년월일", "Ngày sinh", "出生日期";
    age: "Age at study", "검사 당시 나이", "Tuổi khi chụp", "检查时年龄";
    sex: "Sex", "성별", "Giới tính", "性别";
    examination: "Examination", "검사", "Loại chụp", "检查项目";
    study_description: "Study description", "검사 설명", "Mô tả lần chụp", "检查描述";
    study_time: "Study date and time", "검사 일시", "Ngày giờ chụp", "检查日期时间";
    accession: "Accession number", "접수 번호", "Số tiếp nhận", "检查号";
    referring: "Referring physician", "의뢰 의사", "Bác sĩ chỉ định", "申请医师";
    institution: "Institution of the images", "영상 촬영 기관", "Cơ sở chụp", "图像来源机构";
    not_given: "not given", "기재 없음", "không có thông tin", "未提供";
    male: "Male", "남성", "Nam", "男";
    female: "Female", "여성", "Nữ", "女";
    other_sex: "Other", "기타", "Khác", "其他";
    years: "{n} years", "{n}세", "{n} tuổi", "{n} 岁";
    months: "{n} months", "{n}개월", "{n} tháng tuổi", "{n} 个月";
    days: "{n} days", "{n}일", "{n} ngày tuổi", "{n} 天";

    urgency: "Urgency", "긴급도", "Mức độ khẩn cấp", "紧急程度";
    critical: "Critical", "위급", "Nguy cấp", "危急";
    urgent: "Urgent", "긴급", "Khẩn", "紧急";
    significant: "Significant", "중요", "Quan trọng", "重要";
    routine: "Routine", "일반", "Thường quy", "常规";
    critical_line:
        "Communicate within minutes (ACR category 1).", "수 분 이내에 전달해야 합니다(ACR 범주 1).",
        "Cần thông báo trong vài phút (ACR nhóm 1).", "须在数分钟内通知（ACR 1 类）。";
    urgent_line:
        "Communicate within hours (ACR category 2).", "수 시간 이내에 전달해야 합니다(ACR 범주 2).",
        "Cần thông báo trong vài giờ (ACR nhóm 2).", "须在数小时内通知（ACR 2 类）。";
    significant_line:
        "Communicate within days (ACR category 3).", "수일 이내에 전달해야 합니다(ACR 범주 3).",
        "Cần thông báo trong vài ngày (ACR nhóm 3).", "须在数日内通知（ACR 3 类）。";
    routine_line:
        "Usual reading order.", "통상적인 판독 순서를 따릅니다.", "Đọc theo thứ tự thông thường.", "按常规顺序阅片。";
    not_assessed: "Not assessed", "평가하지 않음", "Chưa đánh giá", "未评估";
    not_assessed_line:
        "The software gives no priority to this study; its place in the reading order must not be lowered.",
        "소프트웨어가 이 검사의 우선순위를 정하지 않았습니다. 판독 순서를 늦추어서는 안 됩니다.",
        "Phần mềm không xếp mức ưu tiên cho lần chụp này; không được hạ thứ tự đọc.",
        "软件未给出本次检查的优先级，不得因此推后阅片顺序。";

    read_title: "Read by software", "소프트웨어가 판독함", "Phần mềm đã đọc", "软件已阅片";
    findings_count:
        "Findings above threshold: {n}", "기준 이상의 소견: {n}개", "Số dấu hiệu vượt ngưỡng: {n}", "超过阈值的所见：{n} 项";
    not_covered_title:
        "No local model covers this study", "이 검사를 판독하는 로컬 모델이 없습니다",
        "Không có mô hình cục bộ nào đọc được lần chụp này", "没有适用于本次检查的本地模型";
    not_covered_line:
        "The images were not read. Nothing was looked for, so nothing can be concluded from the absence of findings. The measurements below are not findings.",
        "영상을 판독하지 않았습니다. 어떤 소견도 찾지 않았으므로 소견이 없다는 사실에서 아무 결론도 내릴 수 없습니다. 아래 측정값은 소견이 아닙니다.",
        "Hình ảnh chưa được đọc. Phần mềm không tìm dấu hiệu nào, vì vậy không thể kết luận gì từ việc không có dấu hiệu. Các số đo dưới đây không phải là dấu hiệu bệnh.",
        "图像未被阅读。软件未查找任何征象，因此不能由没有所见得出任何结论。下列测量值不是影像所见。";
    needs_review_title:
        "A person must look at this study", "사람이 이 검사를 확인해야 합니다",
        "Cần có người xem lại lần chụp này", "本次检查须由人员查看";
    needs_review_line:
        "The software did not come to a result that can be used. Read the images as if no software had seen them.",
        "소프트웨어가 사용할 수 있는 결과를 내지 못했습니다. 소프트웨어가 보지 않은 것으로 간주하고 영상을 판독하십시오.",
        "Phần mềm không đưa ra được kết quả dùng được. Hãy đọc hình ảnh như khi chưa có phần mềm nào xem.",
        "软件未得出可用结果。请视同软件未看过这些图像进行阅片。";
    needs_review_doubt:
        "What software said of these images is in doubt. Nothing that is missing here is ruled out.",
        "이 영상에 대한 소프트웨어의 판단은 확실하지 않습니다. 여기에 없는 소견이 배제된 것은 아닙니다.",
        "Những gì phần mềm nói về các hình ảnh này còn nghi vấn. Điều không được nêu ở đây chưa bị loại trừ.",
        "软件对这些图像的判断存疑。此处未列出的征象并未被排除。";
    needs_review_because:
        "A person must look, because {reason}.", "사람이 확인해야 합니다. 사유: {reason}.",
        "Cần có người xem lại, vì: {reason}.", "须由人员查看，原因：{reason}。";
    in_doubt:
        "In doubt: a person must look.", "확실하지 않음: 사람이 확인해야 합니다.",
        "Còn nghi vấn: cần có người xem lại.", "存疑：须由人员查看。";
    disputed: "Disputed", "이견이 있는 소견", "Có ý kiến khác nhau", "有分歧的所见";
    sees_it: "{who} sees it", "{who}: 확인함", "{who} nhìn thấy", "{who}：看到";
    sees_not: "{who} does not see it", "{who}: 확인하지 못함", "{who} không nhìn thấy", "{who}：未看到";
    cannot_tell: "{who} cannot tell", "{who}: 판단하지 못함", "{who} không thể kết luận", "{who}：无法判断";
    measured_only_title:
        "This site lets no model read this study", "이 기관은 이 검사를 모델이 판독하지 않도록 설정하였습니다",
        "Cơ sở này không cho mô hình nào đọc lần chụp này", "本机构未允许任何模型阅读本次检查";
    held_title:
        "Not for reading", "판독 대상이 아님", "Không thuộc diện đọc", "不属于阅片范围";
    reason: "Reason", "사유", "Lý do", "原因";

    clinical_information: "Clinical information", "임상 정보", "Thông tin lâm sàng", "临床信息";
    clinical_none:
        "None was given to the software.", "소프트웨어에 제공된 임상 정보가 없습니다.",
        "Phần mềm không nhận được thông tin nào.", "未向软件提供临床信息。";
    order_none:
        "No order was found for this study.", "이 검사의 처방을 찾지 못했습니다.",
        "Không tìm thấy chỉ định cho lần chụp này.", "未找到本次检查的申请单。";
    order_other:
        "An order of this number names another patient; nothing of it is used.",
        "같은 번호의 처방이 다른 환자의 것이어서 사용하지 않았습니다.",
        "Chỉ định mang số này thuộc bệnh nhân khác nên không được sử dụng.",
        "该编号的申请单属于另一名患者，未予采用。";
    materials: "Procedure and materials", "검사 방법 및 자료", "Kỹ thuật và tư liệu", "检查方法与资料";
    received: "Images received", "수신한 영상", "Hình ảnh nhận được", "收到的图像";
    received_line:
        "{instances} instances in {series} series ({modalities})", "{series}개 시리즈의 인스턴스 {instances}개({modalities})",
        "{instances} ảnh trong {series} chuỗi ({modalities})", "{series} 个序列共 {instances} 个实例（{modalities}）";
    analysed: "Images analysed", "분석한 영상", "Hình ảnh đã phân tích", "已分析的图像";
    pictured:
        "Images pictured, not read", "그림으로만 제시하고 판독하지 않은 영상", "Hình ảnh chỉ trình bày, không đọc", "仅展示、未阅读的图像";
    excluded: "Not looked at, and why", "분석에서 제외한 영상과 사유", "Không xem và lý do", "未查看的图像及原因";
    unreadable: "Not readable, and why", "읽을 수 없는 영상과 사유", "Không đọc được và lý do", "无法读取的图像及原因";
    no_image: "None", "없음", "Không có", "无";
    comparison: "Comparison", "비교 검사", "So sánh", "对比";
    comparison_none:
        "None available to the software.", "소프트웨어가 이용할 수 있는 이전 검사가 없습니다.",
        "Phần mềm không có lần chụp trước để so sánh.", "软件没有可供对比的既往检查。";

    comparison_with:
        "{examination}, {date}, read by this software: {names}.",
        "{date} {examination}(이 소프트웨어가 판독): {names}.",
        "{examination}, {date}, do phần mềm này đọc: {names}.",
        "{date} {examination}（由本软件阅读）：{names}。";
    comparison_nothing:
        "no finding above threshold", "기준 이상의 소견 없음", "không có dấu hiệu vượt ngưỡng", "没有超过阈值的所见";
    comparison_new: "New: {names}.", "새로 나타남: {names}.", "Mới: {names}.", "新出现：{names}。";
    comparison_same:
        "Seen again, sizes not compared: {names}.", "다시 확인됨(크기는 비교하지 않음): {names}.",
        "Vẫn thấy, không so kích thước: {names}.", "再次看到（未比较大小）：{names}。";
    comparison_gone:
        "Not seen any more: {names}.", "더 이상 보이지 않음: {names}.", "Không còn thấy: {names}.", "不再看到：{names}。";
    comparison_open:
        "Not known whether it is still there: {names}.", "아직 있는지 알 수 없음: {names}.",
        "Chưa biết có còn hay không: {names}.", "不能确定是否仍然存在：{names}。";
    comparison_not_made:
        "The findings of the two were not compared.", "두 판독의 소견은 비교하지 않았습니다.",
        "Không so sánh dấu hiệu của hai lần.", "未对两次的所见进行比较。";
    looked_at_part:
        "Series {s}: {n} of {m} images were looked at. What was not looked at is not ruled out.",
        "시리즈 {s}: 영상 {m}개 중 {n}개만 확인하였습니다. 확인하지 않은 부분의 소견은 배제되지 않습니다.",
        "Chuỗi {s}: đã xem {n} trong {m} ảnh. Phần chưa xem chưa được loại trừ.",
        "序列 {s}：{m} 幅图像中查看了 {n} 幅。未查看的部分不能视为已排除。";
    looked_at_series:
        "{n} of {m} series were looked at.", "시리즈 {m}개 중 {n}개만 확인하였습니다.",
        "Đã xem {n} trong {m} chuỗi.", "{m} 个序列中查看了 {n} 个。";
    not_seen:
        "Looked for, not seen on the images that were looked at", "찾았으나 확인한 영상에서는 보이지 않은 소견",
        "Đã tìm, không thấy trên các ảnh đã xem", "已查找，在已查看的图像上未见";
    findings: "Findings", "소견", "Dấu hiệu ghi nhận", "影像所见";
    finding: "Finding", "소견", "Dấu hiệu", "所见";
    certainty: "Certainty", "확실도", "Độ chắc chắn", "确定度";
    seen_by:
        "Seen by {present} of {readers} models.", "{readers}개 모델 중 {present}개가 확인했습니다.",
        "{present} trong {readers} mô hình nhìn thấy.", "{readers} 个模型中有 {present} 个看到。";
    upheld:
        "Another model tried to refute it and upholds it.", "다른 모델이 반증을 시도했으나 소견을 유지했습니다.",
        "Một mô hình khác đã thử bác bỏ và vẫn giữ nhận định này.", "另一个模型尝试反驳后仍予以支持。";
    refuted:
        "Another model does not see it.", "다른 모델은 이 소견을 확인하지 못했습니다.",
        "Một mô hình khác không nhìn thấy.", "另一个模型未看到此所见。";
    unclear:
        "Another model could not decide on it.", "다른 모델은 판단하지 못했습니다.",
        "Một mô hình khác không thể kết luận.", "另一个模型无法判断。";
    probability: "Probability of presence", "존재 확률", "Xác suất hiện diện", "存在概率";
    image: "Image", "영상", "Ảnh", "图像";
    no_image_given:
        "no image reference", "참조 영상 없음", "không có ảnh tham chiếu", "无图像引用";
    no_finding:
        "No finding above threshold among those this algorithm looks for.",
        "이 알고리즘이 찾는 소견 중 기준 이상인 것이 없습니다.",
        "Không có dấu hiệu nào vượt ngưỡng trong số những dấu hiệu mà thuật toán này tìm.",
        "在本算法所查找的征象中，没有超过阈值的所见。";
    not_looked: "Nothing was looked for.", "어떤 소견도 찾지 않았습니다.", "Phần mềm không tìm dấu hiệu nào.", "未查找任何征象。";
    no_result:
        "No usable result.", "사용할 수 있는 결과가 없습니다.", "Không có kết quả dùng được.", "没有可用的结果。";
    undetermined: "Undetermined", "판단 불가", "Không xác định", "无法判定";
    undetermined_line:
        "Looked for; neither present nor absent could be said.", "찾았으나 있는지 없는지 판단할 수 없는 소견입니다.",
        "Đã tìm nhưng không thể nói là có hay không.", "已查找，但无法判定存在与否。";
    absent: "Looked for, below threshold", "찾았으나 기준 미만인 소견", "Đã tìm, dưới ngưỡng", "已查找，低于阈值";
    looked_for: "What was looked for", "찾은 소견 목록", "Những dấu hiệu được tìm", "所查找的征象";
    looked_for_only:
        "Nothing else was looked for.", "그 밖의 소견은 찾지 않았습니다.", "Ngoài ra không tìm dấu hiệu nào khác.", "未查找其他征象。";
    looked_for_unknown:
        "The software gave no list of what it looks for.", "소프트웨어가 찾는 소견의 목록을 제공하지 않았습니다.",
        "Phần mềm không cho biết danh sách dấu hiệu được tìm.", "软件未给出所查找征象的列表。";
    differential: "Differential", "감별 진단", "Chẩn đoán phân biệt", "鉴别诊断";
    measured: "Measured", "측정", "Đo được", "测量";
    as_given:
        "Free text as given by the software, not translated.", "자유 서술은 소프트웨어가 제시한 그대로이며 번역하지 않았습니다.",
        "Phần mô tả tự do giữ nguyên như phần mềm đưa ra, không dịch.", "自由文本按软件原文列出，未翻译。";
    english: "English", "영문", "tiếng Anh", "英文";

    right: "right", "오른쪽", "bên phải", "右侧";
    left: "left", "왼쪽", "bên trái", "左侧";
    bilateral: "bilateral", "양쪽", "hai bên", "双侧";
    unilateral: "unilateral, side not stated", "한쪽(좌우 미상)", "một bên, không rõ bên nào", "单侧（未注明左右）";
    mild: "mild", "경도", "nhẹ", "轻度";
    moderate: "moderate", "중등도", "trung bình", "中度";
    severe: "severe", "중증", "nặng", "重度";
    diameter: "Diameter", "지름", "Đường kính", "直径";
    long_axis: "Long axis", "장축", "Trục dài", "长径";
    short_axis: "Short axis", "단축", "Trục ngắn", "短径";
    attenuation: "Mean density", "평균 감쇠값", "Tỷ trọng trung bình", "平均CT值";
    series: "series {n}", "시리즈 {n}", "chuỗi {n}", "序列 {n}";
    instance: "instance {n}", "인스턴스 {n}", "ảnh {n}", "实例 {n}";
    frame: "frame {n}", "프레임 {n}", "khung hình {n}", "第 {n} 帧";
    unnumbered: "without number", "번호 없음", "không có số", "无编号";
    more: "and {n} more", "외 {n}개", "và {n} mục khác", "及其他 {n} 项";
    key_image: "Key image", "주요 영상", "Hình ảnh chính", "关键图像";
    unread_image: "Image of the study, not read", "검사 영상(판독하지 않음)", "Ảnh của lần chụp, chưa đọc", "本次检查的图像（未阅读）";
    further_image: "Further image with a region", "영역이 표시된 추가 영상", "Ảnh khác có vùng đánh dấu", "其他带标注区域的图像";
    regions: "Marked regions", "표시된 영역", "Vùng đánh dấu", "标注区域";
    window: "window", "윈도우", "cửa sổ", "窗";
    not_for_measuring:
        "Reduced picture, not for diagnosis.", "축소된 그림이며 진단용이 아닙니다.",
        "Ảnh thu nhỏ, không dùng để chẩn đoán.", "缩小图像，不用于诊断。";

    limitations: "Limitations", "제한점", "Hạn chế", "局限性";
    limitations_none:
        "Beyond those of the software, none was noticed.", "소프트웨어 자체의 제한 외에 확인된 제한점이 없습니다.",
        "Ngoài hạn chế của phần mềm, không ghi nhận hạn chế nào khác.", "除软件本身的局限外，未发现其他局限。";
    impression: "Impression", "결론", "Kết luận", "印象";
    recommendations: "Recommendations", "권고", "Khuyến nghị", "建议";
    recommendation_none:
        "The software gives none. The images must be read by a physician.",
        "소프트웨어의 권고가 없습니다. 영상은 의사가 판독해야 합니다.",
        "Phần mềm không đưa ra khuyến nghị. Hình ảnh phải được bác sĩ đọc.",
        "软件未给出建议。图像须由医师阅读。";
    communication:
        "Communication of critical results", "위급 결과의 전달", "Thông báo kết quả nguy cấp", "危急结果的通知";
    communication_none:
        "None recorded when this report was made.", "이 보고서를 작성할 때 기록된 내용이 없습니다.",
        "Chưa có ghi nhận nào khi lập báo cáo này.", "生成本报告时没有记录。";
    time: "Time", "시각", "Thời gian", "时间";
    what: "What", "내용", "Nội dung", "内容";
    to: "To", "받는 사람", "Người nhận", "接收人";
    by: "By", "보낸 사람", "Người báo", "通知人";
    how: "How", "방법", "Cách thức", "方式";
    acknowledged: "Acknowledged", "수신 확인", "Xác nhận", "确认";
    not_acknowledged: "not yet", "아직 없음", "chưa", "尚未";

    measurements:
        "Measurements (not findings)", "측정값(소견 아님)", "Số đo (không phải dấu hiệu bệnh)", "测量值（非影像所见）";
    measurement: "Measurement", "측정 항목", "Số đo", "测量项目";
    value: "Value", "값", "Giá trị", "数值";
    source: "Taken from", "출처", "Lấy từ", "来源";
    technique: "Technique", "촬영 조건", "Kỹ thuật chụp", "技术参数";
    geometry: "Geometry", "기하 정보", "Hình học", "几何信息";
    completeness: "Completeness", "완전성", "Tính đầy đủ", "完整性";
    intensity: "Intensity", "신호 강도", "Cường độ", "强度";

    about: "About this report", "이 보고서에 대하여", "Về báo cáo này", "关于本报告";
    ai_notice:
        "This report was made by software (artificial intelligence). It has not been verified by a physician and is not a diagnosis. It supports review and does not replace it; the final report is a separate document, and differences between the two are to be documented.",
        "이 보고서는 소프트웨어(인공지능)가 작성하였습니다. 의사의 확인을 받지 않았으며 진단이 아닙니다. 판독을 돕기 위한 것이며 판독을 대신하지 않습니다. 최종 판독 보고서는 별도의 문서이며, 두 보고서의 차이는 기록해야 합니다.",
        "Báo cáo này do phần mềm (trí tuệ nhân tạo) tạo ra. Báo cáo chưa được bác sĩ xác nhận và không phải là chẩn đoán. Báo cáo hỗ trợ chứ không thay thế việc đọc phim; báo cáo chính thức là một tài liệu riêng và mọi khác biệt giữa hai báo cáo phải được ghi lại.",
        "本报告由软件（人工智能）生成，未经医师审核，不是诊断。本报告用于辅助阅片，不能取代阅片；最终报告是另外的文件，两者之间的差异应予记录。";
    measures_notice:
        "This report was made by software that only measures. It reads nothing and looks for no finding. It has not been verified by a physician and is not a diagnosis.",
        "이 보고서는 측정만 하는 소프트웨어가 작성하였습니다. 판독을 하지 않으며 소견을 찾지 않습니다. 의사의 확인을 받지 않았으며 진단이 아닙니다.",
        "Báo cáo này do phần mềm chỉ đo đạc tạo ra. Phần mềm không đọc phim và không tìm dấu hiệu nào. Báo cáo chưa được bác sĩ xác nhận và không phải là chẩn đoán.",
        "本报告由仅作测量的软件生成。软件不阅片，也不查找征象。本报告未经医师审核，不是诊断。";
    regulatory: "Regulatory state", "인허가 상태", "Tình trạng pháp lý", "监管状态";
    regulatory_default:
        "Research use only. Not a medical device.", "연구용으로만 사용합니다. 의료기기가 아닙니다.",
        "Chỉ dùng cho nghiên cứu. Không phải là thiết bị y tế.", "仅供研究使用。非医疗器械。";
    algorithm: "Software", "소프트웨어", "Phần mềm", "软件";
    version: "Version", "버전", "Phiên bản", "版本";
    manufacturer: "Manufacturer", "제조사", "Nhà sản xuất", "制造商";
    provider: "Run by", "실행 위치", "Chạy bởi", "运行方";
    provider_local: "this node (local)", "이 노드(로컬)", "nút này (cục bộ)", "本节点（本地）";
    profile: "Profile", "프로파일", "Hồ sơ đọc", "配置";
    analysis_time: "Time of analysis", "분석 시각", "Thời gian phân tích", "分析时间";
    parameters: "Parameters", "매개변수", "Tham số", "参数";
    device_uid: "Device UID", "장치 UID", "UID thiết bị", "设备 UID";
    study_uid: "Study Instance UID", "검사 인스턴스 UID", "UID lần chụp", "检查实例 UID";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The `{name}` places of a string, sorted.
    fn places(text: &str) -> Vec<String> {
        let mut found: Vec<String> =
            text.split('{').skip(1).filter_map(|s| s.split_once('}')).map(|s| s.0.into()).collect();
        found.sort();
        found
    }

    #[test]
    fn every_string_exists_in_every_language_with_the_same_places() {
        assert!(TABLE.len() > 100);
        for (key, texts) in TABLE {
            for (language, text) in Language::ALL.iter().zip(texts) {
                assert!(!text.trim().is_empty(), "{key} {language:?}");
                assert_eq!(places(text), places(texts[0]), "{key} {language:?}");
            }
            for other in &texts[1..] {
                assert_ne!(other, &texts[0], "{key} is not translated");
            }
        }
    }

    /// P6: a negative is never called normal.
    #[test]
    fn no_string_says_normal() {
        for (key, texts) in TABLE {
            for text in texts {
                for word in ["normal", "unremarkable", "정상", "bình thường", "正常"] {
                    assert!(!text.to_lowercase().contains(word), "{key}: {text}");
                }
            }
        }
    }

    #[test]
    fn each_language_is_written_in_its_own_script() {
        let hangul = |c: char| ('가'..='힣').contains(&c);
        let han = |c: char| ('一'..='鿿').contains(&c);
        for (key, [_, ko, _, zh]) in TABLE {
            assert!(ko.chars().any(hangul), "{key}: {ko}");
            assert!(zh.chars().any(han), "{key}: {zh}");
            assert!(!zh.chars().any(hangul) && !ko.chars().any(han), "{key}");
        }
    }

    #[test]
    fn places_are_filled_and_unknown_ones_are_empty() {
        assert_eq!(fill("Page {page} of {pages}", &[("page", "1"), ("pages", "3")]), "Page 1 of 3");
        assert_eq!(fill("{x}a{", &[]), "a{");
    }
}
