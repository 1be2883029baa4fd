"""The look and the behaviour of the report page. No text of a user goes in here."""

CSS = """
:root{--bg:#f6f7f9;--card:#fff;--ink:#1b1f24;--dim:#5d6673;--line:#e0e4ea;--c1:#2563eb;--c2:#ea580c;
--good:#15803d;--goodbg:#dcfce7;--bad:#b91c1c;--badbg:#fee2e2;--warn:#92580a;--warnbg:#fef3c7;--bar:#bfd4fd;
--heat:37,99,235}
@media (prefers-color-scheme:dark){:root{--bg:#101317;--card:#181c22;--ink:#e7eaee;--dim:#98a2b0;
--line:#2b323b;
--c1:#7aa7ff;--c2:#fb923c;--good:#6ee79a;--goodbg:#123222;--bad:#ff9a9a;--badbg:#3d1717;--warn:#fcd47a;
--warnbg:#3a2c0c;--bar:#284a86;--heat:96,150,255}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue","DejaVu Sans",sans-serif;-webkit-text-size-adjust:100%}
main,header{max-width:1120px;margin:0 auto;padding:0 20px}
header{padding-top:34px}
h1{font-size:28px;line-height:1.2;margin:0 0 8px;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:18px;margin:0 0 14px}
h3{font-size:14px;margin:18px 0 8px;color:var(--dim);font-weight:600}
p{margin:0 0 10px;color:var(--dim)}
section{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:20px 22px;
margin:18px 0}
.facts{display:flex;flex-wrap:wrap;gap:6px;padding:0;margin:0;list-style:none}
.facts li{border:1px solid var(--line);background:var(--card);border-radius:99px;padding:2px 11px;
font-size:13px;
color:var(--dim);overflow-wrap:anywhere}
.facts b{color:var(--ink);font-weight:600}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin-top:18px}
.card{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:14px 16px}
.card b{display:block;font-size:27px;line-height:1.15;letter-spacing:-.02em;
font-variant-numeric:tabular-nums}
.card span{color:var(--dim);font-size:13px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
th{color:var(--dim);font-weight:600;text-align:left;font-size:13px}
th,td{padding:6px 8px;border-bottom:1px solid var(--line);white-space:nowrap;vertical-align:middle}
th:first-child,td:first-child{padding-left:0}
.exports th{white-space:normal;vertical-align:bottom}
.exports td.file{white-space:normal;overflow-wrap:anywhere;min-width:9em}
.exports small{display:block;color:var(--dim);font-size:12px}
details{margin:12px 0}summary{cursor:pointer;color:var(--dim);font-weight:600;font-size:14px}
details .scroll{margin-top:10px}
tr:last-child td{border-bottom:0}
th.n,td.n{text-align:right}
td.wrap{white-space:normal;min-width:11em}td.wrap .pill{border-radius:9px;display:inline-block}
.sw{display:inline-block;width:13px;height:13px;border-radius:4px;margin-right:8px;vertical-align:-1px;
box-shadow:inset 0 0 0 1px #0003}
.bar{position:relative;min-width:110px;height:20px;border-radius:5px;background:var(--bg);overflow:hidden}
.bar i{position:absolute;inset:0 auto 0 0;background:var(--bar)}
.bar b{position:absolute;left:8px;top:0;font-weight:500;font-size:13px;line-height:20px}
.pill{border-radius:99px;padding:1px 10px;font-size:13px;font-weight:600;background:var(--warnbg);
color:var(--warn)}
.pill.good{background:var(--goodbg);color:var(--good)}.pill.bad{background:var(--badbg);color:var(--bad)}
.heat{width:auto;font-size:12px}
.heat th,.heat td{border:0;padding:0;text-align:center;min-width:42px;height:30px}
.heat td{border:1px solid var(--card);border-radius:5px}
.heat th.row{text-align:right;padding-right:10px;color:var(--ink);font-weight:500}
.heat thead th{height:auto;padding:4px 2px;vertical-align:bottom}
.heat thead span{writing-mode:vertical-rl;transform:rotate(180deg);font-weight:500;color:var(--ink)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(400px,100%),1fr));gap:18px}
.charts svg{width:100%;height:auto;display:block}
.charts text{fill:var(--dim);font-size:11px;font-family:inherit}
.charts .t{fill:var(--ink);font-size:13px;font-weight:600}
.grid{stroke:var(--line)}.train{stroke:var(--c1);fill:var(--c1)}.val{stroke:var(--c2);fill:var(--c2)}
.charts polyline{fill:none;stroke-width:2;stroke-linejoin:round}
.charts .train.k,.charts .val.k{stroke:none;font-weight:600}
.charts tspan.train{fill:var(--c1)}.charts tspan.val{fill:var(--c2)}
.examples{display:grid;gap:16px}
.example{margin:0}.example figcaption{font-weight:600;margin-bottom:6px;overflow-wrap:anywhere}
.panes{display:grid;grid-template-columns:repeat(auto-fit,minmax(180px,1fr));gap:8px}
.panes div span{display:block;font-size:12px;color:var(--dim)}
.panes img{width:100%;height:auto;display:block;border-radius:8px}
img.mask{image-rendering:pixelated}
.js .examples{display:none}
.viewer{display:none}.js .viewer{display:block}
.stage{position:relative;margin:0 auto;border-radius:10px;overflow:hidden;background:#000;
touch-action:pan-y}
.stage img{position:absolute;inset:0;width:100%;height:100%;display:block;user-select:none;
pointer-events:none}
.stage img[hidden]{display:none}
.stage .right{position:absolute;inset:0}
.stage .line{position:absolute;top:0;bottom:0;width:2px;margin-left:-1px;background:#fff;
box-shadow:0 0 0 1px #0006;
pointer-events:none}
.stage .line:after{content:"\\2194";position:absolute;top:50%;left:1px;transform:translate(-50%,-50%);
width:30px;
height:30px;border-radius:50%;background:#fff;color:#111;display:grid;place-items:center;font-size:16px;
box-shadow:0 1px 5px #0007}
.stage input{position:absolute;inset:0;width:100%;height:100%;margin:0;opacity:0;cursor:ew-resize}
.stage:focus-within{outline:3px solid var(--c1);outline-offset:2px}
.tag{position:absolute;top:8px;background:#000a;color:#fff;font-size:12px;padding:1px 9px;
border-radius:99px;
pointer-events:none}
.tag.a{left:8px}.tag.b{right:8px}
.controls{display:flex;flex-wrap:wrap;gap:8px 18px;align-items:center;margin:0 0 12px;font-size:14px}
.controls label{display:flex;gap:7px;align-items:center;color:var(--dim)}
.controls input{accent-color:var(--c1)}
select,button{font:inherit;color:inherit;background:var(--bg);border:1px solid var(--line);
border-radius:8px;
padding:3px 9px}
button{cursor:pointer}
.thumbs{display:flex;gap:8px;overflow-x:auto;padding:3px;margin:12px 0 4px}
.thumbs button{padding:0;border:2px solid transparent;border-radius:8px;background:none;flex:none;
line-height:0}
.thumbs button[aria-pressed=true]{border-color:var(--c1)}
.thumbs img{height:62px;border-radius:6px;display:block}
button:focus-visible,select:focus-visible{outline:3px solid var(--c1);outline-offset:1px}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;margin-top:12px;font-size:13px;color:var(--dim)}
dl{margin:0;display:grid;grid-template-columns:minmax(110px,max-content) 1fr;gap:6px 18px}
dt{font-weight:600}dd{margin:0;color:var(--dim);overflow-wrap:anywhere}
pre{position:relative;background:var(--bg);border:1px solid var(--line);border-radius:8px;padding:10px 12px;
margin:8px 0;overflow-x:auto;
font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
footer{max-width:1120px;margin:0 auto;padding:4px 20px 40px;color:var(--dim);font-size:13px}
@media (max-width:700px){section{padding:16px 14px}dl{grid-template-columns:1fr}dd{margin-bottom:8px}
th{white-space:normal}.bar{min-width:64px}
.exports thead{display:none}.exports tr{display:block;border-bottom:1px solid var(--line);padding:8px 0}
.exports td,.exports td.n{display:flex;justify-content:space-between;gap:12px;border:0;padding:2px 0;
text-align:right}
.exports td.file{display:block;text-align:left;font-weight:600}.exports small{font-weight:400}
.exports td[data-label]:before{content:attr(data-label);color:var(--dim);text-align:left}
pre{white-space:pre-wrap;overflow-wrap:anywhere}}
@media print{:root{--bg:#fff;--card:#fff;--ink:#000;--dim:#444;--line:#ccc;--c1:#1d4ed8;--c2:#c2410c;
--bar:#cfdffd;--heat:37,99,235}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
body{font-size:11px}table{font-size:10px}.example{break-inside:avoid}
section{break-inside:avoid-page;border-radius:0;border-width:1px 0 0;padding:12px 0}
.js .examples{display:grid}.js .viewer{display:none}.scroll{overflow:visible}}
"""

# Builds the viewer from the figures that stand in the page; without JavaScript (and in print) they show.
JS = """
(function(){
"use strict";
var figures=Array.prototype.slice.call(document.querySelectorAll(".example"));
var viewer=document.querySelector(".viewer");
if(!viewer||!figures.length)return;
document.documentElement.classList.add("js");
var $=function(s){return viewer.querySelector(s)};
var stage=$(".stage"),wipe=$(".stage input"),opacity=$("#opacity"),left=$("#left"),right=$("#right");
var current=0,buttons=[];
function layer(figure,name){return figure.querySelector('img[data-layer="'+name+'"]')}
function fill(select,figure,wish){
  var old=select.value||wish;select.textContent="";
  figure.querySelectorAll("img[data-layer]").forEach(function(image){
    var option=document.createElement("option");
    option.value=option.textContent=image.dataset.layer;select.appendChild(option)});
  select.value=old;if(!select.value)select.value=wish;if(!select.value)select.selectedIndex=0}
function side(box,name){
  var figure=figures[current],base=layer(figure,"image"),top=layer(figure,name);
  box.querySelector(".base").src=base.src;
  var mask=box.querySelector(".top");
  mask.hidden=name==="image";if(name!=="image")mask.src=top.src}
function draw(){
  side($(".leftside"),left.value);side($(".right"),right.value);
  $(".tag.a").textContent=left.value;$(".tag.b").textContent=right.value;move()}
function move(){
  $(".right").style.clipPath="inset(0 0 0 "+wipe.value+"%)";
  $(".line").style.left=wipe.value+"%";
  wipe.setAttribute("aria-valuetext",left.value+" up to "+wipe.value+" percent, then "+right.value);
  viewer.querySelectorAll(".top").forEach(function(image){image.style.opacity=opacity.value/100})}
function show(index){
  current=index;
  var base=layer(figures[index],"image"),w=+base.getAttribute("width"),h=+base.getAttribute("height");
  stage.style.aspectRatio=w+"/"+h;stage.style.width="min(100%, calc(72vh * "+w/h+"))";
  fill(left,figures[index],"truth");fill(right,figures[index],"prediction");
  $(".name").textContent=figures[index].querySelector("figcaption").textContent;
  buttons.forEach(function(b,i){b.setAttribute("aria-pressed",i===index)});draw()}
figures.forEach(function(figure,index){
  var button=document.createElement("button"),image=document.createElement("img");
  button.type="button";image.alt="show "+figure.querySelector("figcaption").textContent;
  image.src=layer(figure,"image").src;button.appendChild(image);
  button.addEventListener("click",function(){show(index)});
  $(".thumbs").appendChild(button);buttons.push(button)});
wipe.addEventListener("input",move);opacity.addEventListener("input",move);
left.addEventListener("change",draw);right.addEventListener("change",draw);
viewer.addEventListener("keydown",function(event){
  if(event.target.tagName==="SELECT")return;
  var step={n:1,p:-1}[event.key];
  if(step)show((current+step+figures.length)%figures.length)});
show(0)})();
"""
