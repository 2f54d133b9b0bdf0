/* A page that was opened from a file may not fetch other files, but it may load scripts. So every JSON file of the site is kept
   as a script that hands its contents over, and a request for JSON loads that script. */
(function ($) {
    "use strict";

    var waiting = {};

    window.refdeqData = function (contents) {
        var source = document.currentScript.getAttribute("src");
        waiting[source](contents);
    };

    $.ajaxTransport("+json", function (options) {
        var source = options.url.split("?")[0] + ".js";
        var script = document.createElement("script");
        function end() {
            delete waiting[source];
            script.remove();
        }
        return {
            send: function (headers, complete) {
                waiting[source] = function (contents) {
                    end();
                    complete(200, "success", {json: contents});
                };
                script.onerror = function () {
                    end();
                    complete(404, "error");
                };
                script.src = source;
                document.head.appendChild(script);
            },
            abort: end
        };
    });

    /* asv asks for a text only to see whether its server still answers: files always do */
    $.ajaxTransport("+text", function () {
        return {
            send: function (headers, complete) { complete(200, "success", {text: ""}); },
            abort: function () {}
        };
    });
})(jQuery);
